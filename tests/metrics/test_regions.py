from __future__ import annotations

import numpy as np
import pytest

from ipar.metrics import in_regions, procrustes_align, region_area, region_coverage


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    layout = rng.normal(size=(40, 2))
    places = layout[:, None] + 0.5 * rng.normal(size=(40, 5, 2))
    radii = rng.gamma(2.0, 0.3, size=(40, 1)) * [0.5, 1.0, 2.0]
    return layout, places, radii


def test_members_by_brute_force(made):
    layout, places, radii = made
    points = layout + 0.7 * np.random.default_rng(1).normal(size=(40, 2))
    found = in_regions(points, places, radii)
    assert found.shape == (40, 3)
    for i in range(40):
        for j in range(3):
            balls = [np.hypot(*(points[i] - place)) <= radii[i, j] for place in places[i]]
            assert found[i, j] == any(balls)
    assert 0.05 < found.mean() < 0.95
    assert np.array_equal(in_regions(points, places.reshape(40, 10), radii[:, 1]), found[:, 1])
    assert not in_regions(np.full((40, 2), np.nan), places, radii).any()


def test_areas_of_balls_alone_apart_and_on_one_another():
    one = np.zeros((3, 1, 2))
    radius = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(region_area(one, radius), np.pi * radius**2)
    apart = np.array([[[0.0, 0.0], [9.0, 0.0]]] * 3)
    np.testing.assert_allclose(region_area(apart, radius), 2 * np.pi * radius**2)
    np.testing.assert_allclose(region_area(np.zeros((3, 4, 2)), radius), np.pi * radius**2)
    assert np.array_equal(region_area(one, 0 * radius), [0.0, 0.0, 0.0])


def test_area_of_two_overlapping_balls_is_that_of_the_lens():
    gap = 1.0
    lens = 2 * np.arccos(gap / 2) - gap / 2 * np.sqrt(4 - gap**2)
    found = region_area(np.array([[[0.0, 0.0], [gap, 0.0]]]), np.array([1.0]), n_points=5000)
    np.testing.assert_allclose(found, 2 * np.pi - lens, rtol=2e-3)


def test_area_by_a_grid(made):
    _, places, radii = made
    found = region_area(places[:6], radii[:6], n_points=400)
    step = 0.02
    grid = np.stack(np.meshgrid(*[np.arange(-8, 8, step)] * 2), axis=-1).reshape(-1, 2)
    for i in range(6):
        near = np.min([np.linalg.norm(grid - place, axis=1) for place in places[i]], axis=0)
        expected = [(near <= radius).sum() * step**2 for radius in radii[i]]
        np.testing.assert_allclose(found[i], expected, rtol=0.03, atol=4 * step**2)


def test_coverage_knows_no_frame_and_grows_with_the_level(made):
    layout, places, radii = made
    truth = layout + 0.4 * np.random.default_rng(2).normal(size=(40, 2))
    share = region_coverage(truth, layout, places, radii)
    assert share.shape == (3,)
    assert (np.diff(share) > 0).all()
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])  # with a reflection
    np.testing.assert_allclose(region_coverage(700 * truth @ turn + 30, layout, places, radii), share)
    alone = region_coverage(truth, layout, places, radii[:, 1])
    assert alone.shape == (1,)
    assert alone[0] == share[1]


def test_a_layout_that_fits_badly_is_not_shrunk():
    rng = np.random.default_rng(3)
    layout, truth = rng.normal(size=(2, 300, 2))
    centres = np.broadcast_to(layout.mean(0), (300, 1, 2))
    radius = np.full(300, 1.4 * np.sqrt(layout.var(axis=0).sum()))
    # the truth keeps the size of the layout, so that a ball of this radius about the middle holds most of it, and not all
    assert 0.6 < region_coverage(truth, layout, centres, radius)[0] < 0.95
    assert np.ptp(procrustes_align(truth, layout), axis=0).max() < 0.5 * np.ptp(truth, axis=0).max()


@pytest.mark.parametrize(
    ("points", "places", "radii", "message"),
    [
        ((4, 3), (4, 2, 2), (4,), r"`points` must have shape \(4, 2\)"),
        ((4, 2), (4, 3), (4,), r"`places` must have shape .* found \(4, 3\)"),
        ((4, 2), (4, 2, 2), (5, 1), "one row for each of 4 cells"),
    ],
)
def test_shapes_that_do_not_go_together(points, places, radii, message):
    with pytest.raises(ValueError, match=message):
        in_regions(np.zeros(points), np.zeros(places), np.zeros(radii))


def test_other_errors(made):
    _, places, radii = made
    with pytest.raises(ValueError, match="negative values"):
        region_area(places, -radii)
    with pytest.raises(ValueError, match="`n_points` must be at least 1, found 0"):
        region_area(places, radii, n_points=0)
