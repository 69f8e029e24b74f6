from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ipar._run import Run
from ipar.training.axes import gene_weights
from ipar.training.encoder import EncoderRecipe, GeneAxes
from ipar.training.slides import Slide, SlideSet

N_GENES = 1200


def section(seed):
    """Twenty genes of place, small ones, among many that vary more and say nothing of it."""
    rng = np.random.default_rng(seed)
    coords = rng.uniform(-1, 1, size=(250, 2)).astype(np.float32)
    waves = np.random.default_rng(7).normal(size=(2, 20))
    x = rng.normal(size=(250, N_GENES)) * np.linspace(0.5, 2.0, N_GENES)
    x[:, :20] = 0.4 * (np.cos(2 * coords @ waves) + 0.5 * rng.normal(size=(250, 20)))
    x[:, 30] = 0.0
    return (x - x.mean(0)).astype(np.float32), coords


@pytest.fixture
def slides():
    x, coords = zip(*map(section, range(2)), strict=True)
    return list(x), list(coords)


def test_genes_of_place_count_most(slides):
    weights = gene_weights(*slides)
    assert weights.shape == (N_GENES,)
    assert weights.dtype == np.float32
    assert np.isfinite(weights).all()
    assert np.median(weights[:20]) > 10 * np.median(weights[20:])
    assert (weights > 0).all()


def test_weighted_genes_have_a_mean_square_of_one(slides):
    for by_place in (True, False):
        weighted = np.concatenate(slides[0]) * gene_weights(*slides, by_place)
        assert np.square(weighted).mean() == pytest.approx(1.0, rel=1e-4)


def test_units_of_a_gene_do_not_matter(slides):
    x, coords = slides
    units = np.random.default_rng(3).uniform(0.8, 1.2, size=N_GENES).astype(np.float32)
    before = np.concatenate(x) * gene_weights(x, coords)
    after = np.concatenate([part * units for part in x]) * gene_weights([part * units for part in x], coords)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)


def test_genes_count_alike_where_place_is_not_asked_for(slides):
    x, coords = slides
    by_place = gene_weights([part[:, :300] for part in x], coords)
    assert np.median(by_place[:20]) > 10 * np.median(by_place[20:])
    assert np.ptp(gene_weights(x, coords, by_place=False)) == 0


def test_where_nothing_is_spatial_no_gene_is_lost():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, N_GENES)).astype(np.float32)
    weights = gene_weights([x - x.mean(0)], [rng.random((200, 2)).astype(np.float32)])
    assert weights.min() > 0.05 * weights.max()


def test_an_unseen_slide_has_truer_neighbours_by_weighted_genes(slides):
    x, coords = section(9)
    true = NearestNeighbors(n_neighbors=20).fit(coords).kneighbors(return_distance=False)

    def hits(read):
        components = PCA(10, random_state=0).fit_transform(read)
        found = NearestNeighbors(n_neighbors=8).fit(components).kneighbors(return_distance=False)
        return np.mean([np.isin(own, near).mean() for own, near in zip(found, true, strict=True)])

    assert hits(x * gene_weights(*slides)) > 2 * hits(x)


def test_axes_hold_the_weights(slides):
    x, coords = slides
    parts = [
        Slide(sparse.csr_matrix(one + 5), places, str(i)) for i, (one, places) in enumerate(zip(x, coords, strict=True))
    ]
    whole = SlideSet(tuple(parts), pd.Index([f"g{i}" for i in range(x[0].shape[1])]))
    recipe = EncoderRecipe(n_pcs=5, spatial_share=0.0)
    axes = GeneAxes.of(whole, recipe, Run())
    weights, loadings = axes.weights, axes.loadings(recipe)
    np.testing.assert_allclose(weights, gene_weights(x, coords), rtol=1e-3)
    # components of expression by the loadings are those of weighted genes, but for the sign and the scale of each
    found = np.concatenate(x) @ loadings
    expected = PCA(5, svd_solver="full").fit_transform(np.concatenate(x) * weights)
    ranks = np.abs(np.corrcoef(found.T, expected.T)[:5, 5:])
    np.testing.assert_allclose(np.diag(ranks), 1.0, atol=1e-3)
