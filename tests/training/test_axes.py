from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ipar._run import Run
from ipar.graph import morans_i
from ipar.training import EncoderRecipe, SlideSet
from ipar.training.axes import AxisSpace
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide

N_GENES = 60


def component_axes(x, coords, n_axes, *, spatial_share=0.5, power=0.0):
    return AxisSpace.of(x, coords, n_axes, spatial_share=spatial_share).loadings(
        n_axes, spatial_share=spatial_share, power=power
    )


def section(seed, n=300):
    """Two weak gradients of many genes, among strong programmes that have no place."""
    rng = np.random.default_rng(seed)
    directions = np.sqrt(N_GENES) * np.linalg.qr(np.random.default_rng(7).normal(size=(N_GENES, 6)))[0].T
    programme, place = directions[:4], directions[4:]
    coords = rng.uniform(-1, 1, size=(n, 2)).astype(np.float32)
    x = rng.normal(size=(n, 4)) @ programme + 0.6 * coords @ place + 0.5 * rng.normal(size=(n, N_GENES))
    return (x - x.mean(0)).astype(np.float32), coords


@pytest.fixture
def slides():
    x, coords = zip(*map(section, range(2)), strict=True)
    return list(x), list(coords)


def spatial_covariance(x, coords):
    """Definition, pair by pair: who is among a cell's eight nearest."""
    total = np.zeros((x[0].shape[1],) * 2)
    for one, places in zip(x, coords, strict=True):
        distances = np.linalg.norm(places[:, None] - places[None], axis=2)
        nearest = np.argsort(distances, axis=1)[:, 1:9]
        total += one.T @ one[nearest].mean(1)
    return (total + total.T) / 2


def test_spatial_axes_are_those_of_the_definition(slides):
    x, coords = slides
    axes = component_axes(x, coords, 6, spatial_share=1.0)
    _, vectors = np.linalg.eigh(spatial_covariance(x, coords))
    for i in range(6):
        np.testing.assert_allclose(
            abs(axes[:, i] @ vectors[:, -1 - i]) / np.linalg.norm(axes[:, i]), 1.0, atol=2e-3, err_msg=str(i)
        )


def test_principal_axes_are_those_of_a_pca(slides):
    x, coords = slides
    axes = component_axes(x, coords, 4, spatial_share=0.0)
    expected = PCA(4, svd_solver="full").fit(np.concatenate(x)).components_.T
    assert subspace_angles(axes, expected).max() < 1e-2


def test_halves_are_both_kinds(slides):
    x, coords = slides
    both = component_axes(x, coords, 7)
    assert both.shape == (N_GENES, 7)
    assert both.dtype == np.float32
    principal = component_axes(x, coords, 4, spatial_share=0.0)
    spatial = component_axes(x, coords, 3, spatial_share=1.0)
    assert subspace_angles(both[:, :4], principal).max() < 1e-2
    assert subspace_angles(both[:, 4:], spatial).max() < 1e-2


def test_components_of_either_kind_have_unit_variance_overall(slides):
    x, coords = slides
    for power in (0.0, 0.25):
        components = np.concatenate(x) @ component_axes(x, coords, 8, power=power)
        assert components[:, :4].std() == pytest.approx(1.0, rel=1e-4)
        assert components[:, 4:].std() == pytest.approx(1.0, rel=1e-4)
    assert np.ptp((np.concatenate(x) @ component_axes(x, coords, 8, power=1.0)).std(0)) < 1e-3


def test_first_spatial_components_have_territories_where_principal_ones_have_none(slides):
    axes = component_axes(*slides, 4)
    x, coords = section(9)
    structure = morans_i(x @ axes, coords)
    assert structure[:2].max() < 0.2
    assert structure[2:].min() > 0.3


def test_an_unseen_slide_has_truer_neighbours_along_spatial_axes(slides):
    x, coords = section(9)
    true = NearestNeighbors(n_neighbors=20).fit(coords).kneighbors(return_distance=False)

    def hits(share):
        components = x @ component_axes(*slides, 4, spatial_share=share)
        found = NearestNeighbors(n_neighbors=8).fit(components).kneighbors(return_distance=False)
        return np.mean([np.isin(own, near).mean() for own, near in zip(found, true, strict=True)])

    assert hits(1.0) > 2 * hits(0.0)


def test_axes_outside_of_what_the_slides_span_are_not_taken():
    """Twelve cells a slide leave most of gene space empty: an axis there would blow up whatever an unseen slide has."""
    x, coords = zip(*(section(seed, 12) for seed in range(2)), strict=True)
    axes = component_axes(x, coords, 50, power=0.25)
    assert axes.shape[1] <= 23
    _, _, spanned = np.linalg.svd(np.concatenate(x), full_matrices=False)
    inside = axes.T @ spanned[:22].T @ spanned[:22]
    np.testing.assert_allclose(inside, axes.T, atol=1e-3 * np.abs(axes).max())


def test_slides_that_hold_nothing_have_axes_of_zero():
    x = [np.zeros((20, 15), dtype=np.float32)] * 2
    coords = [np.random.default_rng(0).random((20, 2)).astype(np.float32)] * 2
    axes = component_axes(x, coords, 6)
    assert np.isfinite(axes).all()
    assert not np.isnan(x[0] @ axes).any()


def test_places_may_have_a_third_dimension(slides):
    x, coords = slides
    deep = [np.c_[one, np.zeros(len(one), dtype=np.float32)] for one in coords]
    np.testing.assert_allclose(component_axes(x, deep, 6), component_axes(x, coords, 6), atol=1e-5)


def test_an_encoder_reads_both_kinds():
    parts = []
    for seed in range(2):
        x, coords = section(seed, 60)
        parts.append(Slide(sparse.csr_matrix(x - x.min()), coords, str(seed)))
    whole = SlideSet(tuple(parts), pd.Index([f"g{i}" for i in range(N_GENES)]))
    few = EncoderRecipe(n_pcs=6, n_output=4, pca_hidden=(4,))
    encoder = fit_encoder(whole, ["pca"], few, Run())["pca"]
    plain = fit_encoder(whole, ["pca"], EncoderRecipe(n_pcs=3, spatial_share=0.0), Run())["pca"]
    assert encoder.loadings.shape == (N_GENES, 6)
    assert subspace_angles(encoder.loadings[:, :3], plain.loadings).max() < 1e-2
    assert subspace_angles(encoder.loadings[:, 3:], plain.loadings).max() > 0.3
