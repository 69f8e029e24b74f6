from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from ipar.pl import shepard
from ipar.pl._errors import quartiles


def median_line(ax):
    return next(line for line in ax.lines if line.get_label() == "median").get_xydata()


def test_a_turned_mirrored_and_scaled_truth_lies_on_the_diagonal(predicted):
    predicted.obsm["X_ipar"] = 30 * predicted.obsm["spatial"][:, ::-1] + 5
    (ax,) = shepard(predicted, return_fig=True).axes
    line = median_line(ax)
    np.testing.assert_allclose(line[:, 0], line[:, 1], rtol=1e-6)
    assert ax.get_title().endswith("Spearman over pairs 1.00")


def test_a_folded_layout_levels_off(predicted):
    # left and right half on top of each other: the farthest pairs are no farther apart than others
    xy = predicted.obsm["spatial"].copy()
    predicted.obsm["X_ipar"] = np.column_stack([np.abs(xy[:, 0] - np.median(xy[:, 0])), xy[:, 1]])
    line = median_line(shepard(predicted, return_fig=True).axes[0])
    assert np.abs(line[:, 1] / line[:, 0] - 1).max() > 0.2


def test_every_pair_is_drawn(predicted):
    (ax,) = shepard(predicted, return_fig=True).axes
    counts = ax.collections[0].get_array()
    assert counts.sum() == len(pdist(predicted.obsm["spatial"]))


def test_quartiles_by_hand():
    true = np.arange(100.0)
    predicted = np.where(true % 2 == 0, true, -true)
    centre, low, middle, high = quartiles(true, predicted)
    assert centre.tolist() == [1.5 + 4 * i for i in range(25)]
    for i in range(25):
        own = predicted[4 * i : 4 * i + 4]
        assert (low[i], middle[i], high[i]) == pytest.approx(tuple(np.percentile(own, [25, 50, 75])))


def test_cells_without_a_position_are_left_out(predicted):
    predicted.obsm["spatial"][3] = np.nan
    predicted.obsm["X_ipar"][8] = np.nan
    n = predicted.n_obs - 2
    assert shepard(predicted, return_fig=True).axes[0].collections[0].get_array().sum() == n * (n - 1) / 2


def test_what_is_missing_is_named(predicted):
    with pytest.raises(KeyError, match="a Shepard diagram needs true coordinates; pass their key as spatial_key"):
        shepard(predicted, spatial_key="elsewhere")
    predicted.obsm["X_ipar"][2:] = np.nan
    with pytest.raises(ValueError, match="needs at least three cells with finite coordinates, found 2"):
        shepard(predicted)
    del predicted.obsm["X_ipar"]
    with pytest.raises(KeyError, match=r"has no 'X_ipar': run ipar.tl.predict_coords first"):
        shepard(predicted)


def test_all_cells_in_one_place_are_drawn(predicted):
    predicted.obsm["X_ipar"] = np.zeros((predicted.n_obs, 2))
    (ax,) = shepard(predicted, return_fig=True).axes
    assert ax.get_title().endswith("Spearman over pairs undefined")
