from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import distance_matrix

from ipar.metrics import _e_geo, e_geo, e_geo_minisets


def gauge(coords):
    centred = coords - coords.mean(axis=0)
    return centred / np.sqrt(np.mean(np.sum(centred**2, axis=1)))


def walk_loop(true, pred):
    """L_RW entry by entry, with dense matrix powers."""
    true, pred = gauge(true), gauge(pred)
    n = len(true)
    k = min(max(20, int(np.floor(0.15 * n + 1e-9))), n - 1)
    d = distance_matrix(true, true)
    near = [sorted((d[i, j], j) for j in range(n) if j != i)[:k] for i in range(n)]
    sigma = [row[-1][0] for row in near]
    sets = [{j for _, j in row} for row in near]

    def transitions(x):
        w = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if j in sets[i] or i in sets[j]:
                    w[i, j] = np.exp(-np.sum((x[i] - x[j]) ** 2) / (sigma[i] * sigma[j]))
        w = 0.5 * (w + w.T)
        return w / w.sum(axis=1, keepdims=True)

    p, q = transitions(true), transitions(pred)
    total = 0.0
    for s in range(1, (3 if n <= 160 else 4 if n <= 300 else 5) + 1):
        ps, qs = np.linalg.matrix_power(p, s), np.linalg.matrix_power(q, s)
        floor = 0.0 if s == 1 else 1e-8
        i, j = np.nonzero(ps)
        kl = np.sum(ps[i, j] * np.log(np.maximum(ps[i, j], floor) / np.maximum(qs[i, j], floor)))
        total += 0.5 ** (s - 1) * kl / n
    return total


@pytest.mark.parametrize("n", [60, 161, 301])
def test_walk_against_loops(n):
    rng = np.random.default_rng(n)
    true = rng.random((n, 2))
    pred = true + rng.normal(scale=0.15, size=true.shape)
    assert e_geo(true, pred).walk == pytest.approx(walk_loop(true, pred), rel=1e-9)


def neighbour_ranks(coords):
    d = distance_matrix(coords, coords)
    np.fill_diagonal(d, -1.0)
    return d.argsort(axis=1).argsort(axis=1)  # 0 the cell itself, 1 its nearest neighbour


@pytest.mark.parametrize("n", [96, 200])
def test_edges_are_neighbours_ring_and_landmarks(n):
    coords = np.random.default_rng(n).random((n, 2))
    ranks, k = neighbour_ranks(coords), max(20, 15 * n // 100)
    i, j = _e_geo._multiscale_edges(ranks.argsort(axis=1)[:, 1:], k, np.random.default_rng(0))
    linked = np.zeros((n, n), dtype=bool)
    linked[i, j] = True
    assert (i < j).all()
    assert linked.sum() == len(i)  # each pair once
    linked |= linked.T
    nearest = np.minimum(ranks, ranks.T)
    assert linked[(nearest >= 1) & (nearest <= k)].all()
    # beyond the ring's reach there are only pairs of landmarks, which are all linked to each other
    far = linked & (nearest > 3 * k)
    ends = np.flatnonzero(far.any(axis=1))
    assert 2 <= len(ends) <= max(8, n // 16)
    assert linked[np.ix_(ends, ends)].sum() == len(ends) * (len(ends) - 1)
    ring = linked & (nearest > k) & ~far
    n_landmark_pairs = max(8, n // 16) * (max(8, n // 16) - 1)
    assert 10 * n <= ring.sum() <= 2 * 10 * n + n_landmark_pairs  # ten a cell, seen from both ends
    assert (ring.sum(axis=1) >= 10).mean() > 0.9


@pytest.mark.parametrize("shape", [(96, 20), (384, 57)])
def test_neighbours_and_steps_follow_the_size(shape):
    n, k = shape
    assert _e_geo._n_neighbors(n) == k
    assert _e_geo._n_neighbors(12) == 11
    assert [_e_geo._n_steps(m) for m in (96, 160, 161, 300, 301, 2000)] == [3, 3, 4, 4, 5, 5]


def test_stress_is_the_least_over_the_offset(layouts):
    true, pred = (gauge(x) for x in layouts)
    order = neighbour_ranks(true).argsort(axis=1)[:, 1:]
    i, j = _e_geo._multiscale_edges(order, _e_geo._n_neighbors(150), np.random.default_rng(11))
    residual = np.log(np.linalg.norm(pred[i] - pred[j], axis=1) / np.linalg.norm(true[i] - true[j], axis=1))
    search = min(np.mean((residual + alpha) ** 2) for alpha in np.linspace(-1, 1, 20001))
    assert e_geo(*layouts, random_state=11).stress == pytest.approx(search, abs=1e-7)


def test_total_weighs_walk_by_one_and_stress_by_a_tenth(layouts):
    energy = e_geo(*layouts)
    assert energy.walk > 0.01
    assert energy.stress > 0.01
    assert energy.total == pytest.approx(energy.walk + 0.1 * energy.stress)


def test_zero_at_the_truth_and_invariant_to_similarity(layouts):
    true, pred = layouts
    assert e_geo(true, true[:, ::-1] * -40.0 + 3.0) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert e_geo(true / 7.0, pred @ turn * 9.0 - 1.0) == pytest.approx(e_geo(true, pred), rel=1e-6)


def test_energy_grows_with_the_error():
    rng = np.random.default_rng(2)
    true, noise = rng.random((250, 2)), rng.normal(size=(250, 2))
    energies = [e_geo(true, true + scale * noise).total for scale in (0.02, 0.1, 0.3, 3.0)]
    assert (np.diff(energies) > 0).all()


def test_minisets_average_the_energy_of_their_own_cells(layouts):
    true, pred = layouts
    rng = np.random.default_rng(5)
    expected = []
    for _ in range(3):
        size = int(rng.integers(100, 121))
        cells = rng.choice(150, size=size, replace=False)
        expected.append(e_geo(true[cells], pred[cells], random_state=rng))
    found = e_geo_minisets(true, pred, n_minisets=3, size=(100, 120), random_state=5)
    assert found == pytest.approx(np.mean(expected, axis=0))
    assert isinstance(found, _e_geo.EGeo)


def test_minisets_of_a_small_slide_hold_all_its_cells(layouts):
    true, pred = layouts[0][:50], layouts[1][:50]
    assert e_geo_minisets(true, pred, n_minisets=2).walk == pytest.approx(e_geo(true, pred).walk)


def test_seeds(layouts):
    assert e_geo_minisets(*layouts, n_minisets=3, size=(96, 120)) == e_geo_minisets(
        *layouts, n_minisets=3, size=(96, 120)
    )
    assert e_geo_minisets(*layouts, n_minisets=3, size=(96, 120)) != e_geo_minisets(
        *layouts, n_minisets=3, size=(96, 120), random_state=1
    )


def test_one_point_is_no_better_than_noise(layouts):
    true, pred = layouts
    noise = np.random.default_rng(9).normal(size=true.shape)
    point = e_geo(true, np.full_like(true, 2.0))
    assert point.total == pytest.approx(e_geo(true, noise).total, rel=0.2)
    assert point.total > 3 * e_geo(true, pred).total


def test_coincident_cells_and_outliers_stay_finite(layouts):
    true, pred = layouts[0].copy(), layouts[1].copy()
    true[:5] = true[0]
    pred[20:60] = pred[20]
    pred[99] += 1e4
    assert np.isfinite(e_geo(true, pred)).all()


@pytest.mark.parametrize("size", [(3, 10), (20, 10)])
def test_miniset_options_are_checked(layouts, size):
    with pytest.raises(ValueError, match="`size` must be"):
        e_geo_minisets(*layouts, size=size)
    with pytest.raises(ValueError, match="`n_minisets` must be at least 1"):
        e_geo_minisets(*layouts, n_minisets=0)
