from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ipar.metrics import collapse


def test_figures_by_their_definitions():
    x = np.random.default_rng(0).normal(size=(80, 2)) @ [[3.0, 1.0], [0.0, 1.0]] * 50 + [7.0, -400.0]
    found = collapse(x)
    fixed = (x - x.mean(0)) / np.sqrt(np.square(x - x.mean(0)).sum(1).mean())
    distance = cdist(fixed, fixed)
    small, large = sorted(np.linalg.svd(fixed, compute_uv=False) ** 2)
    assert found.axis_ratio == pytest.approx(small / large)
    assert found.median_distance == pytest.approx(np.median(distance[np.triu_indices(80, 1)]))
    nearest = (distance + np.diag([np.inf] * 80)).min(axis=1)
    assert found.nearest_p5 == pytest.approx(np.percentile(nearest, 5))
    assert found.nearest_cv == pytest.approx(nearest.std() / nearest.mean())


def test_a_disc_of_random_cells_has_the_documented_figures():
    rng = np.random.default_rng(0)
    radius, angle = np.sqrt(rng.random(5000)), 2 * np.pi * rng.random(5000)
    found = collapse(np.c_[radius * np.cos(angle), radius * np.sin(angle)])
    assert found.axis_ratio == pytest.approx(1, abs=0.05)
    assert found.median_distance == pytest.approx(1.26, abs=0.03)
    assert found.nearest_cv == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.02)  # of a Poisson process in the plane


def test_lines_points_and_clumps_are_seen():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    assert collapse(x * [1.0, 0.05]).axis_ratio < 0.01 < collapse(x).axis_ratio
    heap = np.r_[np.zeros((95, 2)), x[:5]]
    assert collapse(heap).median_distance < 0.01 < collapse(x).median_distance
    clumped = np.repeat(x[:20], 5, axis=0) + 1e-4 * rng.normal(size=(100, 2))
    assert collapse(clumped).nearest_p5 < 0.1 * collapse(x).nearest_p5
    assert collapse(np.r_[clumped[:50], x[:50]]).nearest_cv > collapse(x).nearest_cv
    assert collapse(np.full((20, 2), 3.0)) == (0, 0, 0, 0)


def test_of_many_cells_the_median_is_that_of_a_sample():
    x = np.random.default_rng(0).normal(size=(900, 2))
    assert collapse(x, max_cells=300).median_distance == pytest.approx(collapse(x).median_distance, rel=0.05)
