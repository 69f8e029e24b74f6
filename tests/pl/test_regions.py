from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.contour import QuadContourSet

from ipar import pl
from ipar.metrics._alignment import turned_onto

CELLS = ["c5", "c40"]


def unions(axes):
    """Filled unions, and their outlines."""
    sets = [one for one in axes.get_children() if isinstance(one, QuadContourSet)]
    return [one for one in sets if one.filled], [one for one in sets if not one.filled]


def test_a_union_is_filled_where_a_ball_lies_and_nowhere_else(predicted):
    axes = pl.regions(predicted, CELLS, return_fig=True).axes[0]
    filled, outlines = unions(axes)
    assert len(filled) == len(outlines) == 2
    points = np.random.default_rng(0).uniform(-4, 4, size=(4000, 2))
    for cell, area in zip((5, 40), filled, strict=True):
        places = predicted.obsm["X_ipar_regions"][cell].reshape(-1, 2)
        gap = np.min([np.hypot(*(points - place).T) for place in places], axis=0)
        gap -= predicted.obsm["X_ipar_regions_radii"][cell, 1]
        clear = np.abs(gap) > 0.03  # the border is found on a grid
        path = area.get_paths()[0]
        assert np.array_equal(path.contains_points(points[clear]), gap[clear] < 0)


def test_overlapping_balls_have_one_outline_and_far_ones_two(predicted):
    places = np.zeros((6, 2), dtype=np.float32)
    places[:3] += [0.1, 0.0]
    predicted.obsm["X_ipar_regions"][5] = places.ravel()
    places[:3] += [3.0, 0.0]
    predicted.obsm["X_ipar_regions"][40] = places.ravel()
    _, outlines = unions(pl.regions(predicted, CELLS, return_fig=True).axes[0])
    assert [len(one.get_paths()[0].to_polygons(closed_only=False)) for one in outlines] == [1, 2]


def test_levels_differ_in_size(predicted):
    sizes = []
    for level in (0.5, 0.8):
        filled, _ = unions(pl.regions(predicted, ["c5"], level, return_fig=True).axes[0])
        sizes.append(np.ptp(filled[0].get_paths()[0].vertices, axis=0).min())
    assert sizes[0] < sizes[1]


def test_true_places_are_crosses_in_the_frame_of_the_layout(predicted):
    def markers(**options):
        axes = pl.regions(predicted, CELLS, return_fig=True, **options).axes[0]
        return [np.asarray(one.get_offsets()) for one in axes.get_children() if isinstance(one, PathCollection)]

    layout = predicted.obsm["X_ipar"].astype(float)
    expected = turned_onto(layout, predicted.obsm["spatial"])[[5, 40]]
    found = [one[0] for one in markers() if len(one) == 1]
    np.testing.assert_allclose(found, np.stack([layout[5], expected[0], layout[40], expected[1]]), rtol=1e-5)
    assert len([one for one in markers(spatial_key=None) if len(one) == 1]) == 2
    del predicted.obsm["spatial"]
    assert len([one for one in markers() if len(one) == 1]) == 2


def test_by_default_the_smallest_and_the_largest_are_among_those_drawn(predicted):
    predicted.obsm["X_ipar_regions"] = np.tile(predicted.obsm["X_ipar"], 6)
    axes = pl.regions(predicted, spatial_key=None, return_fig=True).axes[0]
    stars = [one.get_offsets() for one in axes.get_children() if isinstance(one, PathCollection)]
    stars = np.array([one[0] for one in stars if len(one) == 1])
    radius = predicted.obsm["X_ipar_regions_radii"][:, 1]
    assert len(stars) == 4
    for cell in (np.argmin(radius), np.argmax(radius)):
        assert np.isclose(stars, predicted.obsm["X_ipar"][cell]).all(axis=1).any()


def test_cells_without_a_region_are_left_out(predicted):
    predicted.obsm["X_ipar_regions_radii"][:3] = np.nan
    with pytest.raises(KeyError, match=r"no cells \['c1'\]"):
        pl.regions(predicted, ["c1"])
    assert pl.regions(predicted, return_fig=True) is not None


def test_given_axes_are_used(predicted):
    figure, axes = plt.subplots()
    assert pl.regions(predicted, ax=axes, return_fig=True) is figure
    assert len(unions(axes)[0]) == 4


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ("X_ipar_regions", {}, KeyError, r"no 'X_ipar_regions': run ipar\.tl\.predict_regions first"),
        (
            None,
            {"level": 0.7},
            ValueError,
            r"level must be one of \[0\.5, 0\.8\], found 0\.7: run ipar\.tl\.predict_reg",
        ),
        (None, {"cells": ["c1", "x"]}, KeyError, r"no cells \['x'\]"),
        (None, {"cells": list("abcde")}, ValueError, "at most 4 cells can be drawn, found 5"),
    ],
)
def test_errors(predicted, change, options, error, message):
    if change:
        del predicted.obsm[change]
    with pytest.raises(error, match=message):
        pl.regions(predicted, **options)


def test_without_a_record_the_remedy_is_named(predicted):
    del predicted.uns["ipar"]["regions"]
    with pytest.raises(KeyError, match=r"no 'regions': run ipar\.tl\.predict_regions first"):
        pl.regions(predicted)
