from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipar.metrics import coverage, distance_pearson, procrustes_align, rssd, rssd_by_class


def rssd_in_space(true, pred):
    # rotation of the padded coordinates in three dimensions: turning the plane over is a reflection within it
    pad = ((0, 0), (0, 1))
    return Rotation.align_vectors(np.pad(true, pad), np.pad(pred, pad))[1]


def box(coords):
    return (coords - coords.min(axis=0)) / (coords.max(axis=0) - coords.min(axis=0)) - 0.5


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_rssd_against_rotations_in_space(layouts, mirror):
    true, pred = layouts
    true, pred = box(true) + 0.03, box(pred) * [mirror, 1.0]
    assert rssd(true, pred, normalise=False) == pytest.approx(rssd_in_space(true, pred), rel=1e-9)


def test_normalised_rssd_uses_the_aligned_boxes(layouts):
    true, pred = layouts
    expected = rssd_in_space(box(true), box(procrustes_align(true, pred)))
    assert rssd(true, pred) == pytest.approx(expected, rel=1e-9)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert rssd(true * 40.0, pred @ turn * 9.0 + 2.0) == pytest.approx(expected, rel=1e-9)


def test_rssd_by_class_rotates_each_class_by_itself(layouts):
    true, pred = (box(x) for x in layouts)
    classes = np.array(["b", "a", "c"])[np.arange(150) % 3]
    found = rssd_by_class(true, pred, classes, normalise=False)
    assert list(found) == ["a", "b", "c"]
    for name in found:
        assert found[name] == pytest.approx(rssd_in_space(true[classes == name], pred[classes == name]), rel=1e-9)
    with pytest.raises(ValueError, match=r"must have shape \(150,\), one label per cell, found \(149,\)"):
        rssd_by_class(true, pred, classes[1:])


def test_rssd_rewards_shrinking(layouts):
    true, _ = layouts
    true = box(true) - box(true).mean(axis=0)
    wrong = np.random.default_rng(0).permutation(true)
    assert rssd(true, wrong * 0.1, normalise=False) < rssd(true, wrong, normalise=False)


def test_coverage_against_a_histogram(layouts):
    true, pred = layouts
    aligned = procrustes_align(true, pred)
    edges = [np.linspace(true[:, a].min(), true[:, a].max(), 21) for a in range(2)]
    there = np.histogram2d(*true.T, bins=edges)[0] > 0
    reached = np.histogram2d(*aligned.T, bins=edges)[0] > 0
    assert coverage(true, pred) == pytest.approx((there & reached).sum() / there.sum())
    assert 0.1 < coverage(true, pred) < 0.9


def test_regression_to_regional_means_hides_from_correlation_only():
    true = np.random.default_rng(1).random((3000, 2))
    means = np.floor(true * 5) / 5 + 0.1  # every cell in the middle of its region, 5 x 5 of them
    assert coverage(true, true) == 1.0
    assert distance_pearson(true, means) > 0.9
    assert coverage(true, means) <= 25 / 400


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_a_turned_copy_of_a_regular_array_covers_all_of_it(angle):
    true = np.array([(x, y) for x in range(21) for y in range(21)], dtype=float)  # every spot lies on a grid line
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert coverage(true, true @ turn * 0.3 + 8.0) == 1.0


def test_coverage_edge_cases(layouts):
    true, _ = layouts
    occupied = (np.histogram2d(*true.T, bins=20)[0] > 0).sum()
    assert coverage(true, np.zeros_like(true)) in (0.0, pytest.approx(1 / occupied))
    line = np.column_stack([np.arange(40.0), np.zeros(40)])
    assert coverage(line, line) == 1.0
    assert coverage(true, np.zeros_like(true), n_bins=1) == 1.0
    with pytest.raises(ValueError, match="`n_bins` must be at least 1"):
        coverage(true, true, n_bins=0)
