from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ipar.graph.candidates import candidate_mask, cosine_candidates, thinned_candidates


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


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_thinned_candidates_are_distinct_others_nearest_first():
    h = torch.randn(700, 6)
    found = thinned_candidates(h, 12, 60, seeded())
    assert found.shape == (700, 12)
    assert (found != torch.arange(700)[:, None]).all()
    assert all(len(set(row)) == 12 for row in found.tolist())
    unit = torch.nn.functional.normalize(h, dim=-1)
    similarity = (unit[found] * unit[:, None]).sum(-1)
    assert (similarity.diff(dim=1) <= 1e-6).all()


def test_thinned_candidates_are_as_far_as_in_a_set_of_the_context():
    # within a random subset of 60 of 2,000 cells the nearest cells are as far as among any 60 cells
    h = torch.randn(2000, 6)
    unit = torch.nn.functional.normalize(h, dim=-1)
    found = thinned_candidates(h, 5, 60, seeded())
    small = h[torch.randperm(2000, generator=seeded(1))[:61]]
    alone = torch.nn.functional.normalize(small, dim=-1)[cosine_candidates(small, 5)]
    expected = (alone * torch.nn.functional.normalize(small, dim=-1)[:, None]).sum(-1).mean().item()
    assert (unit[found] * unit[:, None]).sum(-1).mean().item() == pytest.approx(expected, abs=0.03)


def test_blocks_have_subsets_of_their_own():
    found = thinned_candidates(torch.randn(1000, 6), 20, 60, seeded())
    used = torch.bincount(found.flatten(), minlength=1000)
    assert (used > 0).sum() > 180  # four blocks of 61 cells; one shared subset would have 61


def test_small_sets_have_all_others_as_context():
    h = torch.randn(40, 6)
    assert torch.equal(thinned_candidates(h, 9, 60, seeded()), cosine_candidates(h, 9))
