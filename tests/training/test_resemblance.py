"""Variants of left-out cells, and what is learned from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ipar.training.resemblance import approximate_counts, shuffled, thinned

TOTAL = 1e4


def counts_of(n=200, n_genes=50, depth=500, seed=0):
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, size=n_genes)
    counts = rng.poisson(depth * rates / rates.sum(), size=(n, n_genes)).astype(float)
    counts[:, 0] += counts[:, 0] == 0  # every cell has a gene with few counts
    return counts


def logged(counts):
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return sparse.csr_matrix(np.log1p(counts / totals * TOTAL), dtype=np.float32)


def test_counts_are_found_again():
    counts = counts_of()
    counts[:, 0] = 1
    np.testing.assert_array_equal(approximate_counts(logged(counts)).toarray(), counts)


def test_a_cell_without_counts_has_none():
    counts = counts_of()
    counts[[0, 7, -1]] = 0
    found = approximate_counts(logged(counts)).toarray()
    assert (found[[0, 7, -1]] == 0).all()
    assert (found[1] > 0).any()


def test_thinning_leaves_a_share_of_the_counts_and_the_totals():
    counts = counts_of(depth=2000)
    x = logged(counts)
    share = np.where(np.arange(len(counts)) < 100, 0.1, 0.5)
    thin = thinned(x, sparse.csr_matrix(counts), share, np.random.default_rng(0))
    np.testing.assert_allclose(np.expm1(thin.toarray()).sum(axis=1), TOTAL, rtol=1e-3)
    left = np.diff(thin.indptr) / np.diff(x.indptr)
    assert left[:100].mean() < left[100:].mean() < 1
    # a mean over cells stays
    before, after = (np.expm1(one.toarray()).mean(axis=0) for one in (x, thin))
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_shuffling_keeps_every_gene_and_breaks_what_they_have_in_common():
    rng = np.random.default_rng(0)
    state = rng.random((300, 1)) < 0.5
    x = sparse.csr_matrix(np.where(state, 3.0, 0.0) * (rng.random((300, 20)) < 0.9), dtype=np.float32)
    found = shuffled(x, rng)
    np.testing.assert_array_equal(np.sort(found.toarray(), axis=0), np.sort(x.toarray(), axis=0))
    common = [np.abs(np.corrcoef(one.toarray().T) - np.eye(20)).mean() for one in (x, found)]
    assert common[1] < 0.15 < 0.6 < common[0]


@pytest.mark.slow
def test_a_fit_knows_what_left_out_cells_look_like(fitted):
    found = fitted.model.resemblance
    assert found.slides.shape == (3, 2)
    assert found.threshold >= 3
    assert (np.diff(found.cells) >= 0).all()
    assert (np.diff(found.knots) >= 0).all()
    assert found.knots[1].max() == 1
    assert (found.weights >= 0).all()
