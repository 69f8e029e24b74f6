from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.overlap import gaussian_overlap, pack_symmetric
from ipar.geometry.rotation import random_rotation, rotation_exp, rotation_log

DIMS = [2, 3]


def cells(d, n=40, *, dtype=torch.float64, scale=0.5):
    return OffsetGaussianRigid(
        rotation_exp(rotation_log(random_rotation((n,), d).to(dtype))),
        *(scale * torch.randn(3, n, d, dtype=dtype)).unbind(0),
    )


def orthogonal(d, *, reflect):
    turn = rotation_exp(rotation_log(random_rotation((), d).double()))
    return turn @ torch.diag(torch.tensor([1.0] * (d - 1) + [-1.0 if reflect else 1.0], dtype=torch.float64))


def overlaps(one, other, **limits):
    (mean, covariance), (mean2, covariance2) = one.to_global(**limits), other.to_global(**limits)
    return gaussian_overlap(mean - mean2, pack_symmetric(covariance + covariance2))


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-4, 0.3, 2.0, np.pi - 1e-6, np.pi])
def test_rotations_in_space_against_scipy(length):
    vector = torch.randn(50, 3, dtype=torch.float64)
    vector = length * vector / vector.norm(dim=-1, keepdim=True)
    found = rotation_exp(vector)
    assert np.allclose(found.numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-9)
    again = rotation_exp(rotation_log(found))  # at π both signs are right
    assert torch.allclose(again, found, atol=1e-7)
    assert (rotation_log(found).norm(dim=-1) <= np.pi + 1e-9).all()


def test_rotations_in_the_plane():
    angle = torch.linspace(-3.1, 3.1, 41, dtype=torch.float64)[:, None]
    assert torch.allclose(rotation_log(rotation_exp(angle)), angle)
    assert torch.allclose(rotation_exp(torch.tensor([np.pi / 2])), torch.tensor([[0.0, -1.0], [1.0, 0.0]]), atol=1e-6)


@pytest.mark.parametrize("d", DIMS)
def test_random_rotations_are_proper_and_uniform(d):
    found = random_rotation((20_000,), d, torch.Generator().manual_seed(0))
    assert torch.allclose(found @ found.mT, torch.eye(d).expand_as(found), atol=1e-5)
    assert torch.allclose(torch.linalg.det(found), torch.ones(20_000), atol=1e-5)
    assert found.mean(0).abs().max() < 0.03  # no direction is preferred


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("at", ["identity", "half turn", "random"])
def test_gradients_of_rotations_are_finite(d, at):
    start = torch.zeros(6, 1 if d == 2 else 3)
    if at == "half turn":
        start[:, 0] = torch.pi
    elif at == "random":
        start = torch.randn_like(start)
    vector = start.requires_grad_()
    rotation_log(rotation_exp(vector)).square().sum().backward()
    assert torch.isfinite(vector.grad).all()


@pytest.mark.parametrize(("d", "numbers"), [(2, 7), (3, 12)])
def test_numbers_of_a_cell(d, numbers):
    found = cells(d)
    vector = found.to_vector()
    assert vector.shape == (40, numbers)
    again = OffsetGaussianRigid.from_vector(vector)
    for name in ("rotation", "translation", "scaling_log", "local_mean"):
        assert torch.allclose(getattr(again, name), getattr(found, name))
    with pytest.raises(ValueError, match="7 numbers in two dimensions or 12 in three, found 8"):
        OffsetGaussianRigid.from_vector(torch.zeros(3, 8))


@pytest.mark.parametrize("d", DIMS)
def test_poses_form_a_group(d):
    a, b, c, points = cells(d), cells(d), cells(d), torch.randn(40, d, dtype=torch.float64)
    one = OffsetGaussianRigid.identity((40,), d).map(torch.Tensor.double)
    for left, right in [
        (a.compose(b).compose(c), a.compose(b.compose(c))),
        (a.inverse().compose(a), one),
        (a.compose(a.inverse()), one),
        (one.compose(a), a),
        (a.inverse().inverse(), a),
    ]:
        assert torch.allclose(left.rotation, right.rotation)
        assert torch.allclose(left.translation, right.translation)
    assert torch.allclose(a.compose(b).apply(points), a.apply(b.apply(points)))
    assert a.compose(b).local_mean is b.local_mean


@pytest.mark.parametrize("d", DIMS)
def test_mean_and_covariance_are_those_of_the_points_that_ride_along(d):
    found = cells(d, 3)
    mean, covariance = found.to_global()
    local = torch.randn(200_000, 1, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = found.apply(found.local_mean + found.scaling_log.exp() * local)
    for i in range(3):
        assert np.allclose(points[:, i].mean(0), mean[i], atol=0.03)
        assert np.allclose(np.cov(points[:, i].numpy().T), covariance[i], atol=0.08)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("reflect", [False, True])
def test_space_moves_with_all_that_is_in_it(d, reflect):
    found, turn, shift = cells(d), orthogonal(d, reflect=reflect), torch.randn(d, dtype=torch.float64)
    moved = found.move(turn, shift)
    (mean, covariance), (mean2, covariance2) = found.to_global(), moved.to_global()
    assert torch.allclose(mean2, mean @ turn.T + shift)
    assert torch.allclose(covariance2, turn @ covariance @ turn.T)
    assert torch.allclose(torch.linalg.det(moved.rotation), torch.ones(40, dtype=torch.float64))
    other = cells(d)
    assert torch.allclose(overlaps(found, other)[0], overlaps(moved, other.move(turn, shift))[0])


@pytest.mark.parametrize("d", DIMS)
def test_interpolation_is_a_geodesic(d):
    a, b = cells(d), cells(d)
    share = torch.rand(40, dtype=torch.float64)
    part = a.interpolate(b, share)
    whole = rotation_log(a.rotation.mT @ b.rotation)
    done, left = rotation_log(a.rotation.mT @ part.rotation), rotation_log(part.rotation.mT @ b.rotation)
    assert torch.allclose(done, share[:, None] * whole, atol=1e-6)
    assert torch.allclose(done.norm(dim=-1) + left.norm(dim=-1), whole.norm(dim=-1), atol=1e-6)
    for name in ("translation", "scaling_log", "local_mean"):
        expected = torch.lerp(getattr(a, name), getattr(b, name), share[:, None])
        assert torch.allclose(getattr(part, name), expected)
    for end, value in ((a, 0.0), (b, 1.0)):
        assert torch.allclose(
            a.interpolate(b, torch.full((40,), value, dtype=torch.float64)).rotation, end.rotation, atol=1e-6
        )


@pytest.mark.parametrize(("d", "farthest"), [(2, np.pi / 2), (3, 2 * np.pi / 3)])
def test_axes_have_no_sign(d, farthest):
    found, reference = cells(d, 500), cells(d, 500)
    near = found.nearest_axes(reference)
    for one, other in zip(found.to_global(), near.to_global(), strict=True):
        assert torch.allclose(one, other)
    angle = rotation_log(reference.rotation.mT @ near.rotation).norm(dim=-1)
    assert (angle <= rotation_log(reference.rotation.mT @ found.rotation).norm(dim=-1) + 1e-9).all()
    assert angle.max() <= farthest + 1e-9
    assert torch.allclose(torch.linalg.det(near.rotation), torch.ones(500, dtype=torch.float64))


@pytest.mark.parametrize("d", DIMS)
def test_overlap_against_the_density_of_scipy(d):
    one, other = cells(d, 12), cells(d, 12)
    energy, log_det = overlaps(one, other)
    (mean, covariance), (mean2, covariance2) = one.to_global(), other.to_global()
    for i in range(12):
        total = (covariance + covariance2)[i].numpy()
        expected = -2 * multivariate_normal(mean2[i], total).logpdf(mean[i]) - d * np.log(2 * np.pi)
        assert np.isclose(energy[i], expected)
        assert np.isclose(log_det[i], np.linalg.slogdet(total)[1])


@pytest.mark.parametrize("d", DIMS)
def test_float32_agrees_with_float64(d):
    one, other = cells(d, 200), cells(d, 200)
    exact = overlaps(one, other)[0]
    rounded = overlaps(one.map(torch.Tensor.float), other.map(torch.Tensor.float))[0]
    assert torch.allclose(rounded.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("level", [-80.0, -5.0, 0.0, 5.0, 80.0, "mixed"])
def test_extreme_scales_stay_positive_definite_with_finite_gradients(d, level):
    found = cells(d, dtype=torch.float32)
    scaling = torch.full((40, d), 0.0 if level == "mixed" else level)
    if level == "mixed":
        scaling[:, 0], scaling[:, 1] = 80.0, -80.0
    scaling.requires_grad_()
    turn = rotation_log(found.rotation).requires_grad_()
    extreme = OffsetGaussianRigid(rotation_exp(turn), found.translation, scaling, found.local_mean)
    covariance = extreme.to_global(scale_min=0.05, scale_max=10.0)[1]
    assert (torch.linalg.eigvalsh(covariance.double()) > 0.04**2).all()
    energy, log_det = overlaps(extreme, extreme.map(lambda part: part.roll(1, 0)), scale_min=0.05, scale_max=10.0)
    assert torch.isfinite(energy).all()
    assert log_det.abs().max() <= 20
    energy.sum().backward()
    assert torch.isfinite(scaling.grad).all()
    assert torch.isfinite(turn.grad).all()


def test_log_determinant_is_clamped():
    for size, expected in ((1e-9, -20.0), (1e9, 20.0)):
        covariance = pack_symmetric(size * torch.eye(2, dtype=torch.float64))
        assert gaussian_overlap(torch.zeros(2, dtype=torch.float64), covariance)[1] == expected
