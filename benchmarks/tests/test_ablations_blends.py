from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import procrustes

import ipar
import lever_flow
from ipar.model import Sharpening


def turned(layout, angle, scale=1.0):
    c, s = np.cos(angle), np.sin(angle)
    return (scale * layout @ np.array([[c, -s], [-s, -c]])).astype(np.float32)  # mirrored too


def test_the_mean_of_two_layouts_knows_no_frame():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(50, 2)).astype(np.float32) for _ in range(2))
    mean = lever_flow.blended(first, second, 0.3)
    np.testing.assert_allclose(lever_flow.blended(first, turned(second, 1.2, 4.0), 0.3), mean, atol=1e-5)
    # an independent formulation: both at unit norm, the second turned onto the first
    a, b, _ = procrustes(first, second)
    b = b / np.linalg.norm(b)
    assert procrustes(0.7 * a + 0.3 * b, mean)[2] == pytest.approx(0, abs=1e-6)


def test_finishing_by_hand_is_what_a_model_does(query, model):
    model = replace(model, sharpening=Sharpening(own=0.2), global_weight=0.8)
    options = {"random_state": 0, "progress": False}
    ipar.tl.predict_coords(query, model, global_weight=0.0, sharpen=False, **options)
    network = query.obsm["X_ipar"].copy()
    finish = lever_flow.Finisher(model, query, 0)
    mean = lever_flow.blended(network, finish.overview, 0.8)
    ipar.tl.predict_coords(query, model, sharpen=False, **options)
    assert procrustes(query.obsm["X_ipar"], mean)[2] < 1e-6
    ipar.tl.predict_coords(query, model, **options)
    # only which pairs are drawn differs, for rows stand in another order
    assert procrustes(query.obsm["X_ipar"], finish.sharpened(mean))[2] < 0.02
    assert procrustes(query.obsm["X_ipar"], mean)[2] > 0.001
