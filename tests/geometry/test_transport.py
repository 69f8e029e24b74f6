"""Cells moved onto places: against the exact assignment, and what must hold of any plan with equal shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ipar.geometry.transport import covered_places, transported

quick = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def points(seed, *sizes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 2)) * [2.0, 1.0] for n in sizes]


def least_cost(x, y):
    cost = cdist(x, y, "sqeuclidean")
    return cost[linear_sum_assignment(cost)].sum()


def place_of(moved, places):
    """The place that every cell stands on; fails where it stands on none."""
    gap = cdist(moved, places)
    assert gap.min(axis=1).max() < 1e-9
    return gap.argmin(axis=1)


@quick
@given(seeds, st.integers(1, 60))
def test_a_small_problem_is_solved_exactly(seed, n):
    x, y = points(seed, n, n)
    moved = transported(x, y)
    assert sorted(place_of(moved, y)) == list(range(n))
    assert np.square(moved - x).sum() == pytest.approx(least_cost(x, y), abs=1e-9)


@quick
@given(seeds, st.integers(1, 30), st.integers(1, 4))
def test_fewer_cells_stand_in_the_middle_of_places_at_the_least_cost(seed, n, times):
    x, y = points(seed, n, times * n)
    moved = transported(x, y)
    copies = np.repeat(x, times, axis=0)
    # the mean of several places is the least-squares summary of them: what is left over is their spread
    columns = linear_sum_assignment(cdist(copies, y, "sqeuclidean"))[1]
    np.testing.assert_allclose(moved, y[columns].reshape(n, times, 2).mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(moved.mean(axis=0), y.mean(axis=0), atol=1e-9)


@quick
@given(seeds, st.integers(1, 120), st.integers(1, 120), st.sampled_from([7, 40, 500]))
def test_every_place_holds_a_like_number_of_cells_and_no_mass_is_lost(seed, n, m, most):
    x, y = points(seed, n, m)
    moved = transported(x, y, most_at_once=most, random_state=seed)
    assert moved.shape == (n, 2)
    assert (moved.min(axis=0) >= y.min(axis=0) - 1e-9).all()
    assert (moved.max(axis=0) <= y.max(axis=0) + 1e-9).all()
    if n >= m:
        held = np.bincount(place_of(moved, y), minlength=m)
        assert set(held) <= {n // m, -(-n // m)}
        return
    # a cell stands for the floor or the ceiling of m / n places: some such numbers give back the mean of the places
    fewest, extra = divmod(m, n)
    rest = y.sum(axis=0) - fewest * moved.sum(axis=0)
    if not extra:
        np.testing.assert_allclose(rest, 0, atol=1e-7)
    else:
        ends = np.sort(moved, axis=0)
        assert (ends[:extra].sum(axis=0) - 1e-7 <= rest).all()
        assert (rest <= ends[-extra:].sum(axis=0) + 1e-7).all()


@pytest.mark.parametrize(("n", "m"), [(600, 600), (1000, 500), (300, 900)])
def test_halving_costs_little(n, m):
    x, y = points(1, n, m)
    y = 1.2 * y + 0.3
    exact, halved = (np.square(transported(x, y, most_at_once=most) - x).sum() for most in (5000, 60))
    assert exact <= halved * (1 + 1e-9) or n < m
    assert halved < 1.15 * exact


@quick
@given(seeds, st.integers(1, 300), st.sampled_from([20, 500]))
def test_cells_on_the_places_stay(seed, n, most):
    (x,) = points(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(transported(x, x[order], most_at_once=most), x, atol=1e-12)


def test_cells_on_a_grid_stay_too():
    """Rows and columns of a grid tie along either axis."""
    x = np.stack(np.meshgrid(np.arange(30.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(transported(x, x[::-1], most_at_once=50), x, atol=1e-12)


@quick
@given(seeds, st.integers(2, 40), st.integers(2, 40), st.floats(0.1, 1e4), st.booleans())
def test_turning_and_shifting_all_moves_the_result_along(seed, n, m, scale, mirrored):
    x, y = points(seed, n, m)
    turn = np.array([[-1.0 if mirrored else 1.0, 0.0], [0.0, -1.0]]) * scale
    shift = np.array([17.0, -4.0]) * scale
    np.testing.assert_allclose(
        transported(x @ turn + shift, y @ turn + shift), transported(x, y) @ turn + shift, atol=1e-8 * scale
    )


def test_the_seed_chooses_which_places_hold_more_and_nothing_else():
    x, y = points(0, 50, 20)
    one, again, other = (place_of(transported(x, y, random_state=seed), y) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(np.bincount(one), np.bincount(other))


def test_arguments_stay_as_they_are():
    x, y = points(0, 30, 20)
    before = x.copy(), y.copy()
    transported(x, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@quick
@given(seeds, st.floats(0.01, 2))
def test_covered_places_are_those_with_a_cell_in_reach_and_the_nearest_of_every_cell(seed, reach):
    x, y = points(seed, 15, 40)
    distances = cdist(x, y)
    nearest = distances == distances.min(axis=1, keepdims=True)
    assert np.array_equal(covered_places(x, y, reach), ((distances <= reach) | nearest).any(axis=0))
