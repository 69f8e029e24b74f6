from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial import procrustes

from ipar.metrics import cell_errors, procrustes_align, procrustes_error


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_planted_similarity_is_undone(layouts, mirror):
    true, _ = layouts
    angle = 2.2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = true * [mirror, 1.0] @ turn * 17.0 + [40.0, -3.0]
    np.testing.assert_allclose(procrustes_align(true, moved), true, atol=1e-8)


def test_rmse_agrees_with_scipy(layouts):
    true, pred = layouts
    # scipy scales both to unit Frobenius norm, so its disparity is the squared error in squared RMS radii
    _, _, disparity = procrustes(true, pred)
    assert procrustes_error(true, pred).rmse == pytest.approx(np.sqrt(disparity), rel=1e-9)


def test_alignment_is_the_optimum_found_numerically(layouts):
    true, pred = layouts
    centred = (pred - pred.mean(axis=0)) / pred.std()

    def loss(p, mirror):
        # p: scale · (cos, sin), shift; the four numbers of a similarity of the plane
        a, b = p[:2]
        return np.square(true - (centred * [mirror, 1.0] @ np.array([[a, b], [-b, a]]) + p[2:])).sum()

    start = np.array([1.0, 1.0, *true.mean(axis=0)])
    best = min(minimize(loss, start, args=(mirror,), method="BFGS").fun for mirror in (1.0, -1.0))
    assert np.square(true - procrustes_align(true, pred)).sum() == pytest.approx(best, rel=1e-6)


def test_error_units(layouts):
    true, pred = layouts
    distance = np.linalg.norm(true - procrustes_align(true, pred), axis=1)
    radius = np.sqrt(np.mean(np.sum((true - true.mean(axis=0)) ** 2, axis=1)))
    np.testing.assert_allclose(cell_errors(true, pred), distance / radius)
    width = max(true[:, 0].max() - true[:, 0].min(), true[:, 1].max() - true[:, 1].min())
    assert procrustes_error(true, pred).median == pytest.approx(np.median(distance) / width)


@pytest.mark.parametrize("point", [0.0, 0.1, 1e6])
def test_prediction_on_one_point_lands_on_the_centroid(layouts, point):
    true, _ = layouts
    pred = np.full_like(true, point)
    np.testing.assert_allclose(procrustes_align(true, pred), np.broadcast_to(true.mean(axis=0), true.shape))
    assert procrustes_error(true, pred).rmse == pytest.approx(1.0)


def test_inputs_are_not_changed(layouts):
    true, pred = layouts
    before = true.copy(), pred.copy()
    procrustes_align(true, pred)
    procrustes_error(true, pred)
    np.testing.assert_array_equal(true, before[0])
    np.testing.assert_array_equal(pred, before[1])
