from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ipar.graph.candidates import candidate_mask, cosine_candidates


def by_sklearn(h, k):
    return NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(h).kneighbors(return_distance=False)


@pytest.mark.parametrize("k", [1, 10, 59])
def test_neighbours_are_those_of_sklearn(k):
    h = torch.randn(60, 8, dtype=torch.float64) * torch.rand(60, 1) * 10
    assert np.array_equal(cosine_candidates(h, k).numpy(), by_sklearn(h.numpy(), k))


def test_cosine_is_not_euclidean_and_ignores_length():
    h = torch.randn(60, 8, dtype=torch.float64) + 1.0
    found = cosine_candidates(h, 10)
    assert torch.equal(cosine_candidates(h * torch.rand(60, 1) * 50, 10), found)
    euclidean = NearestNeighbors(n_neighbors=10).fit(h.numpy()).kneighbors(return_distance=False)
    assert not np.array_equal(found.numpy(), euclidean)


@pytest.mark.parametrize("k", [19, 20, 100])
def test_no_more_neighbours_than_there_are(k):
    found = cosine_candidates(torch.randn(20, 4), k)
    assert [sorted(row) for row in found.tolist()] == [[j for j in range(20) if j != i] for i in range(20)]
    assert candidate_mask(torch.randn(1, 4), k).tolist() == [[False]]


def test_itself_is_never_a_candidate_not_even_among_twins_or_empty_cells():
    h = torch.randn(30, 4)
    h[:10] = h[0]
    h[10:15] = 0.0
    found = cosine_candidates(h, 7)
    assert (found != torch.arange(30)[:, None]).all()
    assert all(len(set(row)) == 7 for row in found.tolist())
    twins = set(range(10))
    assert all(set(row) <= twins for row in found[:10].tolist())


def test_opposite_cells_are_candidates_before_itself():
    h = -torch.rand(20, 1)
    h[4] = 1.0  # as far as cosine goes from all others
    assert sorted(cosine_candidates(h, 19)[4].tolist()) == [j for j in range(20) if j != 4]
    assert all(4 in row for i, row in enumerate(cosine_candidates(h, 19).tolist()) if i != 4)


def test_sets_are_searched_apart():
    h = torch.randn(2, 3, 25, 6)
    found = cosine_candidates(h, 5)
    assert found.shape == (2, 3, 25, 5)
    assert torch.equal(found[1, 2], cosine_candidates(h[1, 2], 5))


def test_mask_marks_the_same_cells():
    h = torch.randn(3, 25, 6)
    before = h.clone()
    mask, found = candidate_mask(h, 5), cosine_candidates(h, 5)
    assert torch.equal(h, before)
    assert mask.shape == (3, 25, 25)
    assert mask.dtype == torch.bool
    for b in range(3):
        for i in range(25):
            assert set(mask[b, i].nonzero()[:, 0].tolist()) == set(found[b, i].tolist())


def test_order_of_cells_is_no_matter():
    h, order = torch.randn(40, 6, dtype=torch.float64), torch.randperm(40)
    assert torch.equal(candidate_mask(h[order], 9), candidate_mask(h, 9)[order][:, order])
