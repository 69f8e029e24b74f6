from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def layouts():
    """A tissue of 150 cells in micrometres and a noisy, turned, mirrored, rescaled prediction of it."""
    rng = np.random.default_rng(7)
    true = rng.random((150, 2)) * [900.0, 500.0] + [3000.0, -200.0]
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    pred = ((true + rng.normal(scale=90.0, size=true.shape)) * [-1.0, 1.0]) @ turn * 0.002 + 5.0
    return true, pred
