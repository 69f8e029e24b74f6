from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import polygamma

from ipar.metrics import evenness


@pytest.mark.parametrize("k", [1, 6, 149])
def test_against_all_distances(layouts, k):
    for coords in layouts:
        kth = np.sort(cdist(coords, coords), axis=1)[:, k]
        assert evenness(coords, n_neighbors=k) == pytest.approx(np.std(np.log(kth)))


@given(st.integers(0, 2**32 - 1), st.floats(-np.pi, np.pi), st.floats(1e-3, 1e3), st.sampled_from([-1.0, 1.0]))
def test_no_similarity_changes_it(seed, angle, scale, mirror):
    x = np.random.default_rng(seed).random((50, 2)) * [3.0, 1.0]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert evenness(scale * (x * [mirror, 1.0]) @ turn + [5.0, -2.0]) == pytest.approx(evenness(x), rel=1e-6)


def test_the_order_of_the_cells_plays_no_part(layouts):
    true, _ = layouts
    assert evenness(true[np.random.default_rng(0).permutation(150)]) == pytest.approx(evenness(true))


@pytest.mark.parametrize("k", [2, 6, 12])
def test_cells_at_random_have_the_spread_of_a_gamma_variable(k):
    # the area of the circle that holds k of many random points is Gamma(k): its log has a variance of ψ'(k), twice the log radius
    x = np.random.default_rng(1).random((100_000, 2))
    assert evenness(x, n_neighbors=k) == pytest.approx(np.sqrt(polygamma(1, k)) / 2, rel=0.02)


def test_a_regular_array_is_even_and_clumps_are_not():
    rng = np.random.default_rng(2)
    array = np.array([(x, y) for x in range(40) for y in range(40)], dtype=float)
    scattered = rng.random(array.shape) * 40
    clumped = rng.random((100, 2))[rng.integers(100, size=1600)] * 40 + rng.normal(size=array.shape) * 0.3
    torn = scattered[np.linalg.norm(scattered[:, None] - rng.random((12, 2)) * 40, axis=2).min(axis=1) > 5]
    found = [evenness(x) for x in (array, array + rng.normal(size=array.shape) * 0.2, scattered, clumped)]
    assert found == sorted(found)
    assert found[0] < 0.12
    assert found[3] > 1.5 * found[2]
    assert evenness(torn) > found[2]


def test_the_inside_of_a_regular_array_has_none():
    inside = np.array([(x, y) for x in range(60) for y in range(60)], dtype=float)
    # the edge is the smaller, the larger the array: all that is left
    assert evenness(inside) < 0.8 * evenness(inside[(inside < 20).all(axis=1)])


def test_coincident_cells_count_as_a_clump():
    x = np.random.default_rng(3).random((200, 2))
    stacked = x.copy()
    stacked[:20] = x[0]
    with np.errstate(all="raise"):
        assert evenness(x) < evenness(stacked) < 2
        assert evenness(np.repeat(x, 10, axis=0)) < 1e-12  # all cells are in stacks, equally dense
        assert evenness(np.full((20, 2), 0.1)) == 0


def test_bad_input_is_refused():
    x = np.random.default_rng(4).random((10, 2))
    with pytest.raises(ValueError, match="between 1 and 9 for 10 cells, found 10"):
        evenness(x, n_neighbors=10)
    with pytest.raises(ValueError, match="`coords` is NaN or infinite in 1 of 10 cells"):
        evenness(np.where(np.arange(10)[:, None] == 3, np.nan, x))
