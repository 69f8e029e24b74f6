from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from ipar.geometry import gauge_fix
from ipar.geometry.targets import (
    differences_of_pairs,
    landmark_count,
    log_edge_distance,
    log_stress,
    multiscale_edges,
    neighbour_count,
    pair_distances,
)
from ipar.metrics import _e_geo, e_geo


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def layout_and_edges(n, seed=0):
    x = gauge_fix(torch.from_numpy(np.random.default_rng(seed).random((n, 2))))
    return x, multiscale_edges(torch.cdist(x, x), neighbour_count(n), generator(seed))


def noisy(x, scale=0.3):
    return gauge_fix(x + scale * torch.from_numpy(np.random.default_rng(1).normal(size=tuple(x.shape))))


def log_distances(x, edges):
    return log_edge_distance(x[None], edges[None])[0]


@pytest.mark.parametrize("n", [3, 9, 15, 96, 200, 384])
def test_edges_are_undirected_pairs_given_once(n):
    _, (i, j) = layout_and_edges(n)
    assert (i < j).all()
    assert (i >= 0).all()
    assert (j < n).all()
    assert len({*zip(i.tolist(), j.tolist(), strict=True)}) == len(i)


@pytest.mark.parametrize("n", [96, 200, 384])
def test_edges_are_neighbours_ring_and_landmark_pairs(n):
    x, (i, j) = layout_and_edges(n)
    k = max(20, 15 * n // 100)
    d = cdist(x, x)
    np.fill_diagonal(d, -1.0)
    ranks = d.argsort(axis=1).argsort(axis=1)  # 0 the cell itself, 1 its nearest neighbour
    nearest = np.minimum(ranks, ranks.T)
    linked = np.zeros((n, n), dtype=bool)
    linked[i, j] = True
    linked |= linked.T
    assert linked[(nearest >= 1) & (nearest <= k)].all()
    # whatever is longer than the ring joins two landmarks; those are few and all joined to each other
    far = linked & (nearest > 3 * k)
    landmarks = np.flatnonzero(far.any(axis=1))
    assert 2 <= len(landmarks) <= max(8, n // 16)
    assert linked[np.ix_(landmarks, landmarks)].sum() == len(landmarks) * (len(landmarks) - 1)
    ring = linked & (nearest > k) & (nearest <= 3 * k)
    others = np.setdiff1d(np.arange(n), landmarks)
    assert (ring.sum(axis=1) >= 1).all()
    own = linked & (ranks > k) & (ranks <= 3 * k)
    assert (own[others].sum(axis=1) >= 10).all()  # ten drawn by the cell itself, more drawn by others
    assert ring.sum() / 2 <= 10 * n + len(landmarks) ** 2


def test_number_of_edges_of_random_tissue():
    sizes = np.linspace(96, 384, 9).astype(int)
    counts = [layout_and_edges(int(n), seed)[1].shape[1] for seed, n in enumerate(sizes)]
    assert min(counts) > 1800
    assert max(counts) < 16500
    assert np.mean(counts) == pytest.approx(8000, rel=0.15)
    assert [landmark_count(n) for n in (5, 96, 143, 144, 384)] == [5, 8, 8, 9, 24]


def test_edges_depend_on_the_generator_alone():
    d = torch.cdist(*[torch.rand(120, 2, generator=generator(3))] * 2)
    state = torch.get_rng_state()
    first, again, other = (multiscale_edges(d, 20, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not (first.shape == other.shape and torch.equal(first, other))
    assert torch.equal(torch.get_rng_state(), state)


def test_edges_leave_their_argument_as_it_was():
    d = torch.cdist(*[torch.rand(40, 2, generator=generator(3))] * 2).fill_diagonal_(0.5)
    before = d.clone()
    multiscale_edges(d, 20, generator())
    assert torch.equal(d, before)


def test_few_cells_and_coincident_cells():
    for n in (2, 3, 8, 21):
        x, (i, _) = layout_and_edges(n)
        assert len(i) == n * (n - 1) // 2  # as many neighbours as there are cells: all pairs
    x = torch.zeros(50, 2)
    i, j = multiscale_edges(torch.cdist(x, x), 20, generator())
    assert (i < j).all()


def test_log_distance_along_edges():
    x = torch.randn(2, 30, 2, dtype=torch.float64)
    edges = torch.from_numpy(np.random.default_rng(0).integers(30, size=(2, 2, 50)))
    edges[:, 1] = (edges[:, 0] + 1 + edges[:, 1] % 29) % 30
    found = log_edge_distance(x, edges)
    for b in range(2):
        for e in range(50):
            i, j = edges[b, :, e]
            assert found[b, e].item() == pytest.approx(np.log(np.hypot(*(x[b, i] - x[b, j]).tolist())))


def test_coincident_ends_are_floored_with_finite_gradients():
    x = torch.zeros(1, 4, 2, requires_grad=True)
    edges = torch.tensor([[[0, 1], [2, 3]]])
    found = log_edge_distance(x, edges)
    found.sum().backward()
    assert found.tolist() == [pytest.approx([np.log(1e-6)] * 2)]
    assert torch.isfinite(x.grad).all()


def test_zero_at_the_truth_and_at_any_scale_of_it():
    x, edges = layout_and_edges(150)
    true = log_distances(x, edges)
    for scale in (1.0, 1e-3, 47.0):
        assert log_stress(log_distances(scale * x, edges), true) < 1e-20


def test_scale_of_prediction_or_truth_costs_nothing():
    x, edges = layout_and_edges(150)
    true, predicted = log_distances(x, edges), log_distances(noisy(x), edges)
    value = log_stress(predicted, true)
    assert value > 0.01
    for scale in (1e-3, 47.0):
        assert torch.allclose(log_stress(predicted + np.log(scale), true), value)
        assert torch.allclose(log_stress(predicted, true + np.log(scale)), value)


def test_alpha_is_the_best_one():
    x, edges = layout_and_edges(150)
    d_true = np.linalg.norm(x[edges[0]] - x[edges[1]], axis=1)
    y = 1.7 * noisy(x)
    d_pred = np.linalg.norm(y[edges[0]] - y[edges[1]], axis=1)
    search = minimize_scalar(lambda alpha: np.mean((np.log(d_pred) + alpha - np.log(d_true)) ** 2))
    assert abs(search.x) > 0.3  # the offset matters here
    assert log_stress(log_distances(y, edges), log_distances(x, edges)).item() == pytest.approx(search.fun, rel=1e-9)


def test_stress_is_that_of_the_metrics(monkeypatch):
    x, edges = layout_and_edges(200)
    y = noisy(x)
    monkeypatch.setattr(_e_geo, "_multiscale_edges", lambda *_: tuple(edges.numpy()))
    expected = e_geo(x.numpy(), y.numpy()).stress
    assert log_stress(log_distances(y, edges), log_distances(x, edges)).item() == pytest.approx(expected, rel=1e-9)


def test_edges_are_of_the_same_kind_as_those_of_the_metrics():
    # two programs, two random streams: the energies agree to the sampling error of the ring and the landmarks
    x = gauge_fix(torch.from_numpy(np.random.default_rng(0).random((200, 2))))
    y, ours, theirs = noisy(x), [], []
    for seed in range(8):
        edges = multiscale_edges(torch.cdist(x, x), neighbour_count(200), generator(seed))
        ours.append(log_stress(log_distances(y, edges), log_distances(x, edges)).item())
        theirs.append(e_geo(x.numpy(), y.numpy(), random_state=seed).stress)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)


def test_masked_edges_change_nothing():
    x, edges = layout_and_edges(100)
    true, predicted = log_distances(x, edges), log_distances(noisy(x), edges)
    value = log_stress(predicted, true)
    garbage = torch.full((40,), 77.0, dtype=torch.float64)
    mask = torch.cat([torch.ones_like(true, dtype=torch.bool), garbage < 0])
    padded = log_stress(torch.cat([predicted, garbage]), torch.cat([true, -garbage]), mask)
    assert torch.allclose(padded, value, rtol=1e-12)
    assert log_stress(predicted, true, torch.zeros_like(true, dtype=torch.bool)) == 0
    both = log_stress(torch.stack([predicted, 2 * predicted]), torch.stack([true, true]))
    assert torch.allclose(both[0], value)


def test_gradient_is_the_numerical_one():
    x, edges = layout_and_edges(12)
    true = log_distances(x, edges)
    mask = torch.arange(len(true)) % 3 > 0
    start = noisy(x).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: log_stress(log_distances(y, edges), true, mask), start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_of_pairs_are_the_same_on_every_device(dtype):
    points = torch.randn(40, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    points[7] = points[3]  # coincident: the gradient must stay finite
    one, other = points.clone().requires_grad_(), points.clone().requires_grad_()
    a, b = pair_distances(one), differences_of_pairs(other)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    (a.square().sum() + a.sum()).backward()
    (b.square().sum() + b.sum()).backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-4)
