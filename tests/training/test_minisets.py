from __future__ import annotations

import numpy as np
import pytest
import torch

from ipar.geometry import gauge_fix
from ipar.geometry.targets import log_walk, walk_target
from ipar.graph.candidates import candidate_mask
from ipar.training.minisets import batch_order, collate, make_miniset, sample_minisets


def slides(*sizes):
    """Slides whose embeddings tell slide and cell: (slide, cell, noise, noise)."""
    rng = np.random.default_rng(0)
    coords = [torch.from_numpy(rng.random((n, 2)) * 900 + 5000).float() for n in sizes]
    h = []
    for index, n in enumerate(sizes):
        cell = torch.arange(n, dtype=torch.float32)
        noise = torch.from_numpy(rng.normal(size=(2, n))).float()
        h.append(torch.stack([torch.full((n,), float(index)), cell, *noise], dim=1))
    return h, coords


def one(n=60, k=12, seed=0):
    h, coords = slides(n)
    return make_miniset(h[0], coords[0], k, torch.Generator().manual_seed(seed))


def test_targets_come_from_the_gauge_fixed_coordinates():
    h, coords = slides(60)
    made, x = one(), gauge_fix(coords[0])
    assert torch.equal(made.coords, x)
    assert torch.equal(made.walk.sigma, walk_target(x).sigma)
    assert torch.equal(made.walk.adjacency, walk_target(x).adjacency)
    i, j = made.edges.long()
    assert torch.allclose(made.log_true, (x[i] - x[j]).norm(dim=1).log(), atol=1e-5)
    found = torch.zeros(60, 60, dtype=torch.bool).scatter_(1, made.candidates.long(), value=True)
    assert torch.equal(found, candidate_mask(h[0], 12))


def test_unit_and_frame_of_the_slide_are_no_matter():
    h, coords = slides(60)
    moved = make_miniset(h[0], 0.01 * coords[0] - 70, 12, torch.Generator().manual_seed(0))
    assert torch.equal(moved.walk.adjacency, one().walk.adjacency)
    assert torch.equal(moved.edges, one().edges)
    assert torch.allclose(moved.log_true, one().log_true, atol=1e-2)


def test_coincident_cells_keep_their_floor():
    h, coords = slides(60)
    coords[0][3] = coords[0][8]
    made = make_miniset(h[0], coords[0], 12, torch.Generator())
    where = (made.edges[0] == 3) & (made.edges[1] == 8)
    assert made.log_true[where].tolist() == [pytest.approx(np.log(1e-6), abs=1e-4)]


def test_close_cells_keep_their_distance():
    # in single precision the expanded product would lose it
    h, coords = slides(100)
    coords[0][3] = coords[0][8] + torch.tensor([0.5, 0.0])
    made = make_miniset(h[0], coords[0], 12, torch.Generator())
    scale = (coords[0] - coords[0].mean(0)).double().square().sum(1).mean().sqrt()
    where = (made.edges[0] == 3) & (made.edges[1] == 8)
    assert made.log_true[where].exp().item() == pytest.approx(0.5 / scale.item(), rel=1e-3)


def test_minisets_are_subsets_of_one_slide_with_their_own_coordinates():
    h, coords = slides(300, 250, 400)
    sets = sample_minisets(h, coords, 30, size=(40, 90), n_neighbors=20)
    for index, made in enumerate(sets):
        slide, cells = made.h[:, 0].long(), made.h[:, 1].long()
        assert (slide == index % 3).all()  # balanced over slides
        assert 40 <= len(made) <= 90
        assert len(cells.unique()) == len(made)
        assert torch.equal(made.coords, gauge_fix(coords[index % 3][cells]))
        assert torch.equal(made.h, h[index % 3][cells])
        assert made.candidates.shape == (len(made), 20)
    sizes = [len(made) for made in sets]
    assert len(set(sizes)) > 10
    assert min(sizes) < 50 < 80 < max(sizes)
    drawn = torch.cat([made.h[:, 1] for made in sets[::3]]).unique()
    assert len(drawn) > 250  # ten sets of about 65 reach most of 300 cells


def test_a_small_slide_gives_all_its_cells():
    h, coords = slides(30)
    sets = sample_minisets(h, coords, 3, size=(40, 90), n_neighbors=100)
    for made in sets:
        assert sorted(made.h[:, 1].tolist()) == list(range(30))
        assert made.candidates.shape == (30, 29)


def test_seeds():
    h, coords = slides(200, 200)

    def draw(seed):
        return sample_minisets(h, coords, 4, size=(40, 90), n_neighbors=20, random_state=seed)

    state = torch.get_rng_state()
    first, again, other = draw(0), draw(0), draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.h, b.h)
        assert torch.equal(a.edges, b.edges)
    assert not any(torch.equal(a.h, b.h) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (7, 1), (100, 4), (131, 3)])
def test_every_set_is_in_one_batch(n, batch_size):
    sizes = np.random.default_rng(0).integers(96, 385, n).tolist()
    batches = batch_order(sizes, batch_size, np.random.default_rng(0))
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-n // batch_size)


def test_batches_hold_like_sizes_in_an_order_that_changes():
    sizes = np.random.default_rng(0).integers(96, 385, 320).tolist()
    rng = np.random.default_rng(0)
    batches, others = batch_order(sizes, 4, rng), batch_order(sizes, 4, rng)
    assert batches != others
    assert {frozenset(batch) for batch in batches} != {frozenset(batch) for batch in others}
    # work grows with the square: little of it goes to padding, while arbitrary batches would waste over a third
    padded = sum(len(batch) * max(sizes[i] for i in batch) ** 2 for batch in batches)
    assert padded < 1.15 * sum(size**2 for size in sizes)
    # and batches do not come sorted, neither over all nor in runs
    means = [np.mean([sizes[i] for i in batch]) for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3
    assert 0.3 < np.mean(np.diff(means) > 0) < 0.7


def test_batch_is_its_sets_and_padding():
    h, coords = slides(200)
    sets = sample_minisets(h, coords, 3, size=(30, 90), n_neighbors=20)
    batch, n, m = collate(sets), max(map(len, sets)), max(made.edges.shape[1] for made in sets)
    assert batch.h.shape == (3, n, 4)
    assert batch.edges.shape == (3, 2, m)
    for b, made in enumerate(sets):
        size, edges = len(made), made.edges.shape[1]
        assert batch.mask[b].tolist() == [i < size for i in range(n)]
        assert batch.edge_mask[b].sum() == edges
        assert torch.equal(batch.h[b, :size], made.h)
        assert torch.equal(batch.candidates[b, :size, :size], candidate_mask(made.h, 20))
        assert torch.equal(batch.adjacency[b, :size, :size], made.walk.adjacency)
        expected = log_walk(made.coords, made.walk.adjacency, made.walk.sigma)
        assert torch.allclose(batch.log_reference[b, :size, :size], expected)
        assert torch.equal(batch.edges[b, :, :edges], made.edges.long())
        assert torch.equal(batch.log_true[b, :edges], made.log_true)
        for pairs in (batch.candidates[b], batch.adjacency[b]):
            assert not pairs[size:].any()
            assert not pairs[:, size:].any()
        assert (batch.log_reference[b, size:] == -torch.inf).all()
        assert (batch.sigma[b] > 0).all()
        assert batch.edges[b].max() < size
    assert batch.steps.tolist() == [3, 3, 3]


def test_every_slide_is_learned_from():
    h, x = [torch.zeros(60, 4)] * 3, [torch.randn(60, 2)] * 3
    with pytest.raises(ValueError, match="n_minisets must be at least the number of slides, 3, found 2"):
        sample_minisets(h, x, 2)
