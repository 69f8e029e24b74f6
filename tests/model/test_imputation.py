"""Means of mapped cells, corrected by a regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ipar.model.imputation import Imputation

N_CELLS, N_PLACES, N_SHARED, N_WANTED = 300, 40, 20, 7


@pytest.fixture
def linear():
    """Cells and places whose wanted genes are linear in the shared ones, and a rough map of few cells per place."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(N_SHARED, N_WANTED))
    cells, places = (rng.normal(5, 1, size=(n, N_SHARED)) for n in (N_CELLS, N_PLACES))
    wanted = [x @ axes - (5 * axes.sum(axis=0)) + 20 for x in (cells, places)]
    weights = np.zeros((N_PLACES, N_CELLS))
    for i in range(N_PLACES):
        weights[i, rng.choice(N_CELLS, 3, replace=False)] = 1 / 3
    as_sparse = [sparse.csr_matrix(x, dtype=np.float32) for x in (weights, wanted[0], places, cells)]
    return (*as_sparse, wanted[1])


def gap(found, truth):
    """RMS of the difference, up to the mean of every gene, which centring takes away."""
    return np.sqrt(np.square((found - found.mean(axis=0)) - (truth - truth.mean(axis=0))).mean())


def test_a_linear_relation_is_carried_over_whatever_the_map(linear):
    weights, wanted, places, cells, truth = linear
    mean = Imputation().of(weights, wanted)
    np.testing.assert_allclose(mean, (weights @ wanted).toarray(), rtol=1e-6)
    found = Imputation().of(weights, wanted, (places, cells))
    assert found.dtype == np.float32
    assert gap(found, truth) < 0.05 * gap(mean, truth)


def test_genes_do_not_depend_on_each_other_nor_on_the_chunks(linear):
    weights, wanted, places, cells, _ = linear
    whole = Imputation().of(weights, wanted, (places, cells))
    single = Imputation().of(weights, sparse.csr_matrix(wanted[:, [4]]), (places, cells))
    np.testing.assert_allclose(single[:, 0], whole[:, 4], rtol=1e-5)
    np.testing.assert_allclose(Imputation(n_genes=2).of(weights, wanted, (places, cells)), whole, rtol=1e-5)


def test_what_differs_by_the_technology_alone_changes_nothing(linear):
    """A constant per gene on one side."""
    weights, wanted, places, cells, _ = linear
    offset = sparse.csr_matrix(places.toarray() + np.arange(N_SHARED, dtype=np.float32))
    expected = Imputation().of(weights, wanted, (places, cells))
    np.testing.assert_allclose(Imputation().of(weights, wanted, (offset, cells)), expected, atol=1e-2)


def test_noise_is_left_alone(linear):
    """Wanted genes that have nothing to do with the shared ones."""
    weights, wanted, places, cells, _ = linear
    rng = np.random.default_rng(3)
    noise = sparse.csr_matrix(rng.normal(20, 1, size=wanted.shape), dtype=np.float32)
    mean, found = Imputation().of(weights, noise), Imputation().of(weights, noise, (places, cells))
    assert np.abs(found - mean).mean() < 0.3 * mean.std()


def test_places_without_cells_stay_empty_and_nothing_is_negative(linear):
    weights, wanted, places, cells, _ = linear
    weights = weights.tolil()
    weights[5] = 0
    low = sparse.csr_matrix(np.maximum(wanted.toarray() - 20, 0))
    found = Imputation().of(sparse.csr_matrix(weights), low, (places, cells))
    assert (found[5] == 0).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("n_shared", [0, 2])
def test_too_few_shared_genes_give_the_mean(linear, n_shared):
    weights, wanted, places, cells, _ = linear
    found = Imputation().of(weights, wanted, (places[:, :n_shared], cells[:, :n_shared]))
    np.testing.assert_array_equal(found, Imputation().of(weights, wanted))
