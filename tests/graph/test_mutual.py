from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ipar.graph import mutual_neighbors


def by_hand(h, k):
    """Edges and weights from the full distance matrix, pair by pair."""
    distance = cdist(h.astype(float), h.astype(float), metric="cosine")
    np.fill_diagonal(distance, np.inf)
    near = [set(np.argsort(row)[:k]) for row in distance]
    found = {}
    for i in range(len(h)):
        for j in range(i + 1, len(h)):
            if j in near[i] and i in near[j]:
                found[i, j] = min(1.0, 2 * len((near[i] | {i}) & (near[j] | {j})) / k)
    return found


@pytest.mark.parametrize(("n", "k"), [(60, 5), (200, 15), (12, 15)])
def test_pairs_and_weights_are_those_of_the_full_matrix(n, k):
    h = np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32)
    edges, weights = mutual_neighbors(h, k)
    expected = by_hand(h, min(k, n - 1))
    assert {(int(i), int(j)) for i, j in edges.T} == set(expected)
    assert edges.shape[1] == len(expected)
    for (i, j), weight in zip(edges.T, weights, strict=True):
        assert weight == pytest.approx(expected[int(i), int(j)])


def test_cells_of_one_embedding_are_neighbours():
    h = np.repeat(np.random.default_rng(0).normal(size=(10, 6)), 4, axis=0).astype(np.float32)
    edges, weights = mutual_neighbors(h, 3)
    assert edges.shape[1] == 10 * 6
    assert (edges[0] // 4 == edges[1] // 4).all()
    assert (weights == 1).all()
