"""Means of mapped cells, corrected by a regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from ipar.model.imputation import Imputation, Shared, Shares

N_CELLS, N_PLACES, N_SHARED, N_WANTED = 300, 80, 45, 7
AS_MAPPED = replace(Imputation(), shares=((1.0, 1.0),))  # α = β = 1


def csr(x):
    return sparse.csr_matrix(x, dtype=np.float32)


def given(*, n_mapped=3, noise=0.0, seed=0):
    """Weights, wanted genes of the cells, shared genes, and the truth: all genes are linear in six factors."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(6, N_SHARED + N_WANTED))
    cells, places = (15 + rng.normal(size=(n, 6)) @ loadings for n in (N_CELLS, N_PLACES))
    weights = np.zeros((N_PLACES, N_CELLS))
    for i in range(N_PLACES):
        near = np.argsort(np.square(cells - places[i]).sum(axis=1))[:n_mapped]
        weights[i, near if n_mapped > 1 else rng.integers(N_CELLS)] = 1 / n_mapped
    noisy = places[:, N_WANTED:] + noise * rng.normal(size=(N_PLACES, N_SHARED))
    shared = Shared(csr(noisy), csr(cells[:, N_WANTED:]))
    return csr(weights), csr(cells[:, :N_WANTED]), shared, places[:, :N_WANTED]


def gap(found, truth):
    """RMS of the difference, up to the mean of every gene, which centring takes away."""
    return np.sqrt(np.square((found - found.mean(axis=0)) - (truth - truth.mean(axis=0))).mean())


def test_without_shared_genes_places_take_the_mean_of_their_cells():
    weights, wanted, shared, _ = given()
    expected = weights.toarray() @ wanted.toarray()
    found, shares = Imputation().of(weights, wanted)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (shares.of_map, shares.of_regression) == (1, 0)
    few = shared.genes(np.arange(N_SHARED) < 29)
    np.testing.assert_array_equal(Imputation().of(weights, wanted, few)[0], found)


def test_a_linear_relation_is_carried_over():
    weights, wanted, shared, truth = given()
    mean = Imputation().of(weights, wanted)[0]
    found, shares = Imputation().of(weights, wanted, shared)
    assert found.dtype == np.float32
    assert gap(found, truth) < 0.1 * gap(mean, truth)
    assert shares.of_regression == 1
    assert shares.pearson > 0.99


def test_a_map_at_random_is_left_out():
    weights, wanted, shared, truth = given(n_mapped=1, noise=3.0)
    found, shares = Imputation().of(weights, wanted, shared)
    assert shares.of_map < 0.5
    assert gap(found, truth) < gap(AS_MAPPED.of(weights, wanted, shared)[0], truth)


def test_a_map_that_is_right_is_kept_where_measurements_are_noise():
    weights, wanted, shared, truth = given(n_mapped=2, noise=8.0)
    found, shares = Imputation().of(weights, wanted, shared)
    assert shares.of_map > 0.5
    assert gap(found, truth) < gap(AS_MAPPED.of(weights, wanted, shared)[0], truth)


def test_held_out_genes_foretell_the_others():
    for noise in (0.5, 4.0):
        weights, wanted, shared, truth = given(noise=noise)
        found, shares = Imputation().of(weights, wanted, shared)
        own = np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, truth.T, strict=True)])
        measured = shares.pearson * np.sqrt(1 + noise**2 / 6)  # the held-out genes carry noise, the truth does not
        assert own == pytest.approx(measured, abs=0.15)


def test_genes_do_not_depend_on_each_other_nor_on_the_chunks():
    weights, wanted, shared, _ = given()
    whole = Imputation().of(weights, wanted, shared)[0]
    single = Imputation().of(weights, wanted[:, [4]], shared)[0]
    np.testing.assert_allclose(single[:, 0], whole[:, 4], rtol=1e-4)
    np.testing.assert_allclose(Imputation(chunk=2).of(weights, wanted, shared)[0], whole, rtol=1e-4)


def test_a_technology_that_shifts_genes_changes_nothing():
    weights, wanted, shared, _ = given()
    shifted = Shared(csr(shared.places.toarray() + np.arange(N_SHARED)), shared.cells)
    expected = AS_MAPPED.of(weights, wanted, shared)[0]
    np.testing.assert_allclose(AS_MAPPED.of(weights, wanted, shifted)[0], expected, atol=1e-2)


def test_places_without_cells_stay_empty_and_nothing_is_negative():
    weights, wanted, shared, _ = given()
    weights = weights.tolil()
    weights[5] = 0
    low = csr(np.maximum(wanted.toarray() - 15, 0))
    found = Imputation().of(csr(weights), low, shared)[0]
    assert (found[5] == 0).all()
    assert (found >= 0).all()
    assert (found[6] > 0).any()


def test_the_seed_decides_alone(global_random_state):
    weights, wanted, shared, _ = given(noise=2.0)
    first, again = (Imputation().of(weights, wanted, shared, random_state=1) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1] != Shares()
