"""How the genes of a query are centred: on what it shares with the training slides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar.model.matching import Centring
from ipar.tl import map_to_reference


@pytest.fixture
def centres(alone):
    """Centres of some cells, and the reference that knows nothing unless another is given."""

    def run(adata, centring=None, *, decoder=1.0, slides=None, genes=None):
        reference = alone.model.reference
        reference = replace(reference, decoder=np.float32(decoder) * reference.decoder)
        slides = pd.Categorical(np.full(adata.n_obs, "q")) if slides is None else slides
        genes = adata.var_names if genes is None else genes
        return (centring or Centring()).centres(alone.model.encoder, reference, adata.X, pd.Index(genes), slides)

    return run


def test_a_query_is_centred_on_its_mean_where_nothing_else_is_expected(alone, centres):
    query = alone.query.copy()
    mean = query.X.toarray().mean(axis=0)
    found = centres(query, decoder=0.0)
    n = query.n_obs
    np.testing.assert_allclose(found[0], (n * mean + 20 * alone.model.reference.mean) / (n + 20), rtol=1e-5, atol=1e-6)
    # a query with the mean of the training slides keeps its own, however few its cells
    few = query[:3].copy()
    few.X = sparse.csr_matrix(few.X.toarray() * 0 + alone.model.reference.mean)
    np.testing.assert_allclose(centres(few, decoder=0.0)[0], alone.model.reference.mean, rtol=1e-5)


def test_without_rounds_and_prior_it_is_the_mean_of_the_slide(alone, centres):
    found = centres(alone.query, Centring(n_rounds=0, n_prior=0))
    np.testing.assert_allclose(found[0], alone.query.X.toarray().mean(axis=0), rtol=1e-5, atol=1e-6)


def test_missing_genes_stay_at_zero(alone, centres):
    some = alone.query[:, :40].copy()
    found = centres(some)
    assert (found[0, 40:] == 0).all()
    assert (found[0, :40] > 0).all()


def test_slides_are_centred_each_by_itself(alone, centres):
    query = alone.query
    slides = pd.Categorical(np.where(np.arange(150) % 3 == 0, "one", "two"), categories=["none", "one", "two"])
    found = centres(query, slides=slides)
    assert found.shape == (3, 60)
    assert (found[0] == 0).all()  # of no cells
    for code, name in ((1, "one"), (2, "two")):
        np.testing.assert_allclose(found[code], centres(query[slides == name].copy())[0], rtol=1e-4, atol=1e-5)


def test_one_cell(alone, centres):
    found = centres(alone.query[:1].copy())
    assert np.isfinite(found).all()
    # the prior of twenty cells outweighs it
    mean = alone.model.reference.mean
    own = alone.query.X[:1].toarray()[0]
    assert np.linalg.norm(found[0] - mean) < 0.5 * np.linalg.norm(found[0] - own)


def test_the_order_of_cells_and_genes_does_not_matter(alone, centres):
    query = alone.query
    rows, columns = np.random.default_rng(0).permutation(150), np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(centres(query[rows][:, columns].copy()), centres(query), rtol=1e-3, atol=1e-4)


def test_a_batch_that_shifts_all_cells_leaves_the_embedding_as_it_was(alone):
    """What the mean of a slide holds and its composition does not."""
    model = replace(alone.model, centring=Centring(n_prior=0.0))
    one = pd.Categorical(np.full(150, "q"))
    shift = np.linspace(0, 1, 60, dtype=np.float32)
    x = alone.query.X.toarray()
    before = model.features(sparse.csr_matrix(x), alone.query.var_names, one).embedding
    after = model.features(sparse.csr_matrix(x + shift), alone.query.var_names, one).embedding
    np.testing.assert_allclose(after, before, atol=0.05)


@pytest.mark.parametrize("side", [0, 1])
def test_half_of_a_tissue_is_placed_better_than_by_its_own_mean(alone, make_slides, side):
    cells = make_slides(("h",), n_cells=500, turned=False, seed=2)
    half = cells[(cells.obsm["spatial"][:, 0] > 0) == bool(side)].copy()

    def error(centring):
        found = half.copy()
        map_to_reference(found, replace(alone.model, centring=centring), layout_key=None, progress=False)
        return np.sqrt(np.square(found.obsm["ipar_map_reference"] - half.obsm["spatial"]).sum(axis=1).mean())

    centred, by_own_mean = error(Centring()), error(Centring(n_rounds=0, n_prior=0))
    assert centred < 0.9 * by_own_mean
