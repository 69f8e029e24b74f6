from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ipar.datasets._sections import draw_codes, mount, scatter

GRID = np.stack(np.meshgrid(np.linspace(-1200, 1200, 25), np.linspace(-700, 700, 15)), axis=-1).reshape(-1, 2)


def affine(placed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares affine map of GRID onto `placed`, and what it leaves."""
    design = np.column_stack([GRID, np.ones(len(GRID))])
    solution, *_ = np.linalg.lstsq(design, placed, rcond=None)
    return solution[:2].T, placed - design @ solution


def test_mounting_rotates_anyhow_mirrors_half_and_warps_a_little():
    radius = np.sqrt((GRID**2).sum(axis=1).mean())
    maps, warps = [], []
    for seed in range(60):
        linear, rest = affine(mount(np.random.default_rng(seed), GRID))
        maps.append(linear)
        warps.append(np.sqrt((rest**2).sum(axis=1).mean()) / radius)
        assert np.abs(np.log(np.linalg.svd(linear, compute_uv=False))).max() < 0.35
    mirrored = np.array([np.linalg.det(m) < 0 for m in maps])
    assert 0.25 < mirrored.mean() < 0.75
    angle = np.array([np.arctan2(m[1, 1], m[0, 1]) for m in maps])
    assert np.histogram(angle, bins=4, range=(-np.pi, np.pi))[0].min() >= 5
    assert 0 < np.median(warps) < 0.05
    assert max(warps) < 0.15


def test_a_mounted_section_never_folds():
    for seed in range(60):
        placed = mount(np.random.default_rng(seed), GRID).reshape(15, 25, 2)
        right, up = np.diff(placed, axis=1)[:-1], np.diff(placed, axis=0)[:, :-1]
        areas = right[..., 0] * up[..., 1] - right[..., 1] * up[..., 0]
        assert (np.sign(areas) == np.sign(areas[0, 0])).all()


@pytest.mark.parametrize("n", [50, 777])
def test_scattered_cells_follow_the_density_and_keep_apart(n: int):
    def density(points: np.ndarray) -> np.ndarray:
        inside = np.abs(points).max(axis=1) < 100
        return np.where(points[:, 0] < 0, 0.25, 1.0) * inside

    runs = [scatter(np.random.default_rng(seed), n, (-150, 150, -150, 150), density) for seed in range(10)]
    points = np.concatenate(runs)
    assert points.shape == (10 * n, 2)
    assert np.abs(points).max() < 100
    assert (points[:, 0] < 0).mean() == pytest.approx(0.2, abs=0.06)
    # closest pairs are further apart than among independent points
    rng = np.random.default_rng(0)
    nearest = np.mean([np.percentile(cKDTree(p).query(p, k=2)[0][:, 1], 5) for p in runs])
    free = [
        np.column_stack([rng.choice([-1, 1, 1, 1, 1], n) * rng.uniform(0, 100, n), rng.uniform(-100, 100, n)])
        for _ in runs
    ]
    assert nearest > 1.3 * np.mean([np.percentile(cKDTree(p).query(p, k=2)[0][:, 1], 5) for p in free])


def test_scattered_cells_are_in_random_order():
    points = scatter(np.random.default_rng(0), 500, (0, 1, 0, 1), lambda p: np.ones(len(p)))
    assert np.abs(np.corrcoef(np.column_stack([points, np.arange(500)]).T)[2, :2]).max() < 0.2


def test_codes_are_drawn_with_the_given_probabilities():
    table = np.array([[1.0, 0.0, 3.0], [0.0, 5.0, 0.0]])
    rows = np.repeat([0, 1], 4000)
    codes = draw_codes(np.random.default_rng(0), table[rows])
    share = np.bincount(codes[:4000], minlength=3) / 4000
    np.testing.assert_allclose(share, [0.25, 0, 0.75], atol=0.03)
    assert (codes[4000:] == 1).all()
