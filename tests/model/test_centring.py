"""How the genes of a query are centred: on what it shares with the training slides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar.model.genes import match_genes
from ipar.model.matching import Centring
from ipar.tl import map_to_reference


@pytest.fixture
def centre(alone):
    """The centre of some cells, by a reference whose expectations are multiplied."""

    def run(adata, centring=None, *, decoder=1.0):
        encoder, reference = alone.model.encoder, alone.model.reference
        reference = replace(reference, decoder=np.float32(decoder) * reference.decoder)
        matrix = match_genes(adata.X, adata.var_names, encoder.genes)
        present = adata.var_names.get_indexer(encoder.genes) >= 0
        return (centring or Centring()).centre(encoder, reference, matrix, present)

    return run


def test_a_query_is_centred_on_its_mean_where_nothing_else_is_expected(alone, centre):
    query = alone.query.copy()
    mean, n = query.X.toarray().mean(axis=0), query.n_obs
    expected = (n * mean + 5 * alone.model.reference.mean) / (n + 5)
    np.testing.assert_allclose(centre(query, decoder=0.0), expected, rtol=1e-5, atol=1e-6)
    # a query with the mean of the training slides keeps its own, however few its cells
    few = query[:3].copy()
    few.X = sparse.csr_matrix(few.X.toarray() * 0 + alone.model.reference.mean)
    np.testing.assert_allclose(centre(few, decoder=0.0), alone.model.reference.mean, rtol=1e-5)


def test_without_rounds_and_prior_it_is_the_mean_of_the_slide(alone, centre):
    found = centre(alone.query, Centring(n_rounds=0, n_prior=0))
    np.testing.assert_allclose(found, alone.query.X.toarray().mean(axis=0), rtol=1e-5, atol=1e-6)


def test_missing_genes_stay_at_zero(alone, centre):
    found = centre(alone.query[:, :40].copy())
    assert (found[40:] == 0).all()
    assert (found[:40] > 0).all()


def test_a_shift_that_gains_too_little_is_not_made(alone, centre):
    own_mean = centre(alone.query, Centring(n_rounds=0))
    np.testing.assert_array_equal(centre(alone.query, Centring(least_gain=2.0)), own_mean)
    assert not np.allclose(centre(alone.query, Centring(least_gain=-2.0)), own_mean, atol=0.01)


def test_one_cell(alone, centre):
    found = centre(alone.query[:1].copy())
    assert np.isfinite(found).all()
    # the prior of five cells outweighs it
    mean = alone.model.reference.mean
    own = alone.query.X[:1].toarray()[0]
    assert np.linalg.norm(found - mean) < 0.5 * np.linalg.norm(found - own)


def test_the_order_of_cells_and_genes_does_not_matter(alone, centre):
    query = alone.query
    rows, columns = np.random.default_rng(0).permutation(150), np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(centre(query[rows][:, columns].copy()), centre(query), rtol=1e-3, atol=1e-4)


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
