from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.distance import cdist

from ipar.graph.candidates import fuzzy_edges
from ipar.graph.nearest import nearest


def by_hand(h, k):
    """Weights from the full distance matrix and UMAP's equations, solved cell by cell."""
    distance = cdist(h.astype(float), h.astype(float), metric="cosine")
    np.fill_diagonal(distance, np.inf)
    one_way = np.zeros_like(distance)
    for i, row in enumerate(distance):
        near = np.argsort(row)[:k]
        beyond = row[near] - row[near].min()
        sigma = brentq(lambda s, beyond=beyond: np.exp(-beyond / s).sum() - np.log2(k + 1), 1e-6, 1e3)
        one_way[i, near] = np.exp(-beyond / sigma)
    return one_way + one_way.T - one_way * one_way.T


@pytest.mark.parametrize(("n", "k"), [(60, 5), (200, 15)])
def test_weights_are_those_of_the_full_matrix(n, k):
    h = np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32)
    edges, weights = fuzzy_edges(nearest(h, k))
    assert (edges[0] < edges[1]).all()
    found = np.zeros((n, n))
    found[edges[0], edges[1]] = weights
    np.testing.assert_allclose(found, np.triu(by_hand(h, k), 1), atol=2e-3)


def test_every_cell_has_its_nearest_neighbour():
    h = np.random.default_rng(1).normal(size=(90, 6)).astype(np.float32)
    h[:3] *= -1  # outliers too
    edges, weights = fuzzy_edges(nearest(h, 4))
    best = np.zeros(90)
    np.maximum.at(best, edges.ravel(), np.tile(weights, 2))
    np.testing.assert_allclose(best, 1, atol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_fewer_cells_than_neighbours(n):
    h = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)
    edges, weights = fuzzy_edges(nearest(h, 15))
    assert edges.shape[1] <= n * (n - 1) // 2
    assert np.isfinite(weights).all()


def test_cells_of_one_embedding_are_neighbours():
    h = np.repeat(np.random.default_rng(0).normal(size=(10, 6)), 4, axis=0).astype(np.float32)
    edges, _ = fuzzy_edges(nearest(h, 3))
    assert edges.shape[1] == 10 * 6
    assert (edges[0] // 4 == edges[1] // 4).all()


def test_weights_are_those_of_umap():
    from umap.umap_ import fuzzy_simplicial_set

    h = np.random.default_rng(3).normal(size=(150, 10)).astype(np.float32)
    near = nearest(h, 8)
    itself = np.arange(150, dtype=np.int32)[:, None]
    index = np.concatenate([itself, near.index], axis=1)
    distance = np.concatenate([np.zeros((150, 1), dtype=np.float32), near.distance], axis=1)
    expected, *_ = fuzzy_simplicial_set(h, 9, None, "cosine", knn_indices=index, knn_dists=distance)
    edges, weights = fuzzy_edges(near)
    found = np.zeros((150, 150))
    found[edges[0], edges[1]] = weights
    np.testing.assert_allclose(found, np.triu(expected.toarray(), 1), atol=2e-3)
