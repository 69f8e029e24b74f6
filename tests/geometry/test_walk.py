from __future__ import annotations

import numpy as np
import pytest
import torch

from ipar.geometry import gauge_fix
from ipar.geometry.targets import (
    log_walk,
    neighbour_count,
    predicted_walk,
    squared_distances,
    walk_kl,
    walk_steps,
    walk_target,
)
from ipar.metrics import e_geo


def random_layout(n, seed=0, dtype=torch.float64):
    return gauge_fix(torch.from_numpy(np.random.default_rng(seed).random((n, 2))).to(dtype))


def noisy(x, scale=0.2, seed=1):
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(x.shape))).to(x.dtype)
    return gauge_fix(x + scale * noise)


def kl_of(x_true, x_pred):
    target = walk_target(x_true)
    logs = [log_walk(x, target.adjacency, target.sigma)[None] for x in (x_true, x_pred)]
    return walk_kl(*logs, torch.tensor([target.steps]), torch.ones(1, len(x_true), dtype=torch.bool))[0]


def walk_by_loops(x_true, x, k):
    """Transition matrix by the definition, entry by entry."""
    n = len(x)
    d = np.array([[np.linalg.norm(x_true[i] - x_true[j]) for j in range(n)] for i in range(n)])
    ranked = [sorted((d[i, j], j) for j in range(n) if j != i)[:k] for i in range(n)]
    sigma = [row[-1][0] for row in ranked]
    near = [{j for _, j in row} for row in ranked]
    w = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if j in near[i] or i in near[j]:
                w[i, j] = np.exp(-np.sum((x[i] - x[j]) ** 2) / (sigma[i] * sigma[j]))
    w = 0.5 * (w + w.T)
    return w / w.sum(axis=1, keepdims=True)


def kl_by_powers(p, q, steps):
    """L_RW from one-step walks by dense matrix powers."""
    total = 0.0
    for s in range(1, steps + 1):
        ps, qs = np.linalg.matrix_power(p, s), np.linalg.matrix_power(q, s)
        floor = 0.0 if s == 1 else 1e-8
        for i, j in zip(*np.nonzero(ps), strict=True):
            total += 0.5 ** (s - 1) * ps[i, j] * np.log(max(ps[i, j], floor) / max(qs[i, j], floor)) / len(p)
    return total


def test_squared_distances_do_not_cancel():
    x = torch.tensor([[1000.0, -1000.0], [1000.001, -1000.0]])
    gap = float(x[1, 0] - x[0, 0])
    assert squared_distances(x)[0, 1].item() == pytest.approx(gap**2)
    batch = torch.randn(2, 3, 7, 2)
    assert torch.allclose(squared_distances(batch), torch.cdist(batch, batch).square(), atol=1e-5)
    assert (squared_distances(batch).diagonal(dim1=-2, dim2=-1) == 0).all()


def test_neighbours_and_steps_follow_the_size():
    sizes = [2, 12, 21, 22, 96, 133, 134, 140, 180, 200, 380, 384, 2000]
    assert [neighbour_count(n) for n in sizes] == [1, 11, 20, 20, 20, 20, 20, 21, 27, 30, 57, 57, 300]
    # 0.15 n is rounded down exactly, also where 0.15 n is an integer that floating point might miss
    assert all(neighbour_count(n) == max(20, 15 * n // 100) for n in range(21, 3000))
    assert [walk_steps(n) for n in (20, 96, 160, 161, 300, 301, 384, 5000)] == [3, 3, 3, 4, 4, 5, 5, 5]
    mean_k = np.mean([neighbour_count(n) for n in range(96, 385)])
    assert mean_k == pytest.approx(36, abs=1)


@pytest.mark.parametrize("n", [12, 50, 150])
def test_walk_against_loops(n):
    x, k = random_layout(n), min(20 if n < 140 else 15 * n // 100, n - 1)
    target, other = walk_target(x), noisy(x)
    for layout in (x, other):
        found = predicted_walk(layout, target.adjacency, target.sigma).numpy()
        assert np.allclose(found, walk_by_loops(x.numpy(), layout.numpy(), k), atol=1e-12)


def test_target_is_a_walk_without_self_loops():
    target = walk_target(random_layout(120))
    assert torch.equal(target.adjacency, target.adjacency.T)
    assert not target.adjacency.diagonal().any()
    assert (target.adjacency.sum(1) >= 20).all()
    p = predicted_walk(random_layout(120), target.adjacency, target.sigma)
    assert torch.allclose(p.sum(1), torch.ones(120, dtype=p.dtype))
    assert (p.diagonal() == 0).all()
    assert (p[~target.adjacency] == 0).all()
    assert (p[target.adjacency] > 0).all()


def test_walk_is_reversible():
    # symmetric weights satisfy detailed balance: the stationary measure is the row mass of W, and P_ij P_jk P_ki is the
    # same both ways around any triangle (Kolmogorov)
    x = random_layout(60)
    target = walk_target(x, 59)
    p = predicted_walk(noisy(x), target.adjacency, target.sigma)
    i, j, k = torch.from_numpy(np.random.default_rng(0).integers(60, size=(3, 500)))
    assert torch.allclose(p[i, j] * p[j, k] * p[k, i], p[i, k] * p[k, j] * p[j, i], rtol=1e-9, atol=0)


def test_number_of_neighbours_can_be_given():
    x = random_layout(30)
    ranked = torch.cdist(x, x).sort(1).values
    target = walk_target(x, 4)
    assert torch.allclose(target.sigma, ranked[:, 4])
    assert (target.adjacency.sum(1) >= 4).all()
    assert (target.adjacency.sum(1) < 20).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [12, 96, 161, 301])
def test_predicted_walk_is_the_target_at_the_truth(n, dtype):
    x = random_layout(n, dtype=dtype)
    target = walk_target(x)
    p, q = (predicted_walk(y, target.adjacency, target.sigma) for y in (x, x.clone()))
    assert (p - q).abs().max() == 0
    assert kl_of(x, x) == 0


@pytest.mark.parametrize("n", [40, 150, 310])
def test_kl_against_matrix_powers(n):
    x = random_layout(n)
    y, k = noisy(x), max(20, 15 * n // 100)
    p, q = (walk_by_loops(x.numpy(), z.numpy(), k) for z in (x, y))
    expected = kl_by_powers(p, q, 3 if n <= 160 else 4 if n <= 300 else 5)
    assert kl_of(x, y).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [30, 160, 161, 320])
def test_kl_is_that_of_the_metrics(n):
    x = random_layout(n)
    y = noisy(x, 0.3)
    assert kl_of(x, y).item() == pytest.approx(e_geo(x.numpy(), y.numpy()).walk, rel=1e-9)


def test_kl_of_a_mixed_padded_batch_is_that_of_each_set():
    sizes = [170, 40, 310]
    n = max(sizes)
    reference, predicted = (torch.full((3, n, n), -torch.inf, dtype=torch.float64) for _ in range(2))
    mask, single = torch.arange(n) < torch.tensor(sizes)[:, None], []
    for i, size in enumerate(sizes):
        x = random_layout(size, seed=i)
        y, target = noisy(x), walk_target(x)
        reference[i, :size, :size] = log_walk(x, target.adjacency, target.sigma)
        predicted[i, :size, :size] = log_walk(y, target.adjacency, target.sigma)
        single.append(kl_of(x, y))
    batch = walk_kl(reference, predicted, torch.tensor([walk_steps(s) for s in sizes]), mask)
    assert torch.allclose(batch, torch.stack(single), rtol=1e-10)


def test_float32_is_enough():
    x = random_layout(320)
    y = noisy(x, 0.3)
    assert kl_of(x.float(), y.float()).item() == pytest.approx(kl_of(x, y).item(), rel=1e-4)


def test_kl_is_positive_and_grows_with_the_error():
    x = random_layout(150)
    values = [kl_of(x, noisy(x, scale)).item() for scale in (0.02, 0.1, 0.3, 3.0)]
    assert values[0] > 0
    assert (np.diff(values) > 0).all()


def test_kl_gradient_is_the_numerical_one():
    x = random_layout(23)
    assert torch.autograd.gradcheck(lambda y: kl_of(x, y), noisy(x, 0.05).requires_grad_())


def test_far_outliers_stay_finite():
    # all weights of a cell that lies far from its neighbours underflow; in logarithms they do not
    x = random_layout(60, dtype=torch.float32)
    y = x.clone()
    y[0] += 1e4
    y.requires_grad_()
    value = kl_of(x, y)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(y.grad).all()


def test_rows_without_edges_are_zero_with_finite_gradients():
    x = random_layout(30, dtype=torch.float32)
    target = walk_target(x, 5)
    adjacency = target.adjacency.clone()
    adjacency[7], adjacency[:, 7] = False, False
    y = noisy(x).requires_grad_()
    logs = log_walk(y, adjacency, target.sigma)
    p = logs.exp()
    assert (p[7] == 0).all()
    assert torch.allclose(p.sum(1), adjacency.any(1).float())
    reference = log_walk(x, adjacency, target.sigma)
    mask = torch.ones(1, 30, dtype=torch.bool)
    walk_kl(reference[None], logs[None], torch.tensor([3]), mask).sum().backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().max() > 0


def test_coincident_cells_stay_finite():
    x = random_layout(60, dtype=torch.float32)
    x[:25] = x[0]  # more than k: bandwidths of zero but for their floor
    y = noisy(x).requires_grad_()
    value = kl_of(x, y)
    value.backward()
    assert kl_of(x, x) == 0
    assert torch.isfinite(value)
    assert torch.isfinite(y.grad).all()
    collapsed = torch.zeros(60, 2, requires_grad=True)
    kl_of(random_layout(60, dtype=torch.float32), collapsed).backward()
    assert torch.isfinite(collapsed.grad).all()


def test_row_entropy_of_random_tissue():
    entropies = []
    for seed, n in enumerate(np.linspace(96, 384, 7).astype(int)):
        x = random_layout(int(n), seed)
        target = walk_target(x)
        p = predicted_walk(x, target.adjacency, target.sigma).numpy()
        entropies.append(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1).mean())
    assert 3.2 < np.mean(entropies) < 3.9
    # no set is nearly deterministic, none exceeds the uniform walk over k neighbours and the few added in return
    assert min(entropies) > 2.9
    assert max(entropies) < np.log(1.3 * 57)
