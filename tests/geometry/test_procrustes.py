from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from ipar.geometry import apply_similarity, procrustes_transform


def plant(x, rng, *, reflect):
    turn = ortho_group.rvs(2, random_state=rng)
    if (np.linalg.det(turn) < 0) != reflect:
        turn[0] *= -1
    return rng.uniform(0.01, 50) * x @ turn + rng.normal(scale=100.0, size=2)


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(6, 50, 2)) * [3.0, 1.0]


@pytest.mark.parametrize("reflect", [False, True])
def test_planted_similarity_is_recovered(points, reflect):
    rng = np.random.default_rng(1)
    source = torch.from_numpy(np.stack([plant(x, rng, reflect=reflect) for x in points]))
    target = torch.from_numpy(points)
    transform = procrustes_transform(source, target)
    assert torch.allclose(apply_similarity(source, transform), target, atol=1e-10)
    assert (torch.linalg.det(transform[1]) * (-1.0 if reflect else 1.0) > 0).all()


def test_transform_found_on_some_points_carries_the_others(points):
    rng = np.random.default_rng(2)
    source = torch.from_numpy(np.stack([plant(x, rng, reflect=True) for x in points]))
    target = torch.from_numpy(points)
    transform = procrustes_transform(source[:, :5], target[:, :5])
    assert torch.allclose(apply_similarity(source, transform), target, atol=1e-9)


def test_residual_is_that_of_scipy(points):
    rng = np.random.default_rng(3)
    for x in points:
        y = plant(x + rng.normal(scale=0.7, size=x.shape), rng, reflect=rng.random() < 0.5)
        source, target = torch.from_numpy(y), torch.from_numpy(x)
        aligned = apply_similarity(source, procrustes_transform(source, target))
        residual = (aligned - target).square().sum() / (target - target.mean(0)).square().sum()
        disparity = procrustes(x, y)[2]
        assert disparity > 0.01
        assert residual.item() == pytest.approx(disparity, rel=1e-9)


def test_rotation_is_orthogonal_and_no_other_similarity_is_better(points):
    rng = np.random.default_rng(4)
    source, target = torch.from_numpy(points[0]), torch.from_numpy(points[1] + points[0])
    centre, rotation, scale, shift = procrustes_transform(source, target)
    assert torch.allclose(rotation @ rotation.T, torch.eye(2, dtype=torch.float64))

    def error(angle, factor, move):
        c, s = np.cos(angle), np.sin(angle)
        turn = rotation @ torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        moved = apply_similarity(source, (centre, turn, scale * factor, shift + torch.tensor(move)))
        return (moved - target).square().sum().item()

    best = error(0.0, 1.0, [0.0, 0.0])
    for _ in range(50):
        step = rng.normal(scale=0.05, size=4)
        assert error(step[0], 1 + step[1], [step[2], step[3]]) > best


def test_leading_axes_are_independent(points):
    source = torch.from_numpy(points).view(2, 3, 50, 2)
    target = source.flip(0) + 0.3 * source
    together = apply_similarity(source, procrustes_transform(source, target))
    for i in range(2):
        for j in range(3):
            alone = apply_similarity(source[i, j], procrustes_transform(source[i, j], target[i, j]))
            assert torch.allclose(together[i, j], alone)


@pytest.mark.parametrize("place", [0.0, 5.0])
def test_coincident_points_stay_finite(place):
    source = torch.full((10, 2), place)
    for a, b in ((source, torch.randn(10, 2)), (torch.randn(10, 2), source)):
        aligned = apply_similarity(a, procrustes_transform(a, b))
        assert torch.isfinite(aligned).all()
        assert torch.allclose(aligned.mean(0), b.mean(0), atol=1e-5)


def test_a_line_is_carried_onto_a_line():
    source = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.0], dtype=torch.float64)
    target = 2 * source[:, [1, 0]] + 1
    aligned = apply_similarity(source, procrustes_transform(source, target))
    assert torch.allclose(aligned, target)
