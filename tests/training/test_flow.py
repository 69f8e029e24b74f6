from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.rotation import random_rotation, rotation_exp, rotation_log
from ipar.nn import EllipseUnits, IGAConfig
from ipar.nn.gaussian_attention import AttentionSignals
from ipar.nn.iga import IGAOutput
from ipar.nn.pose_flow import noise_poses
from ipar.training.flow_losses import FlowWeights, corrupt, couple, flow_losses

B, N = 3, 25


@pytest.fixture(params=[2, 3])
def d(request):
    return request.param


def states(d, **changes):
    config = IGAConfig(n_dims=d, units=EllipseUnits(-2.0, 0.5, 0.2), **changes)
    noise = noise_poses((B, N), config, torch.Generator().manual_seed(0))
    scale, mean = torch.randn(2, B, N, d).unbind(0)
    x = torch.randn(B, N, d)
    clean = OffsetGaussianRigid(random_rotation((B, N), d), x - x.mean(1, keepdim=True), scale - 2, 0.2 * mean)
    return config, noise, clean


def output(rigid, anchor):
    return IGAOutput(rigid, anchor, AttentionSignals(*torch.zeros(3)))


def turned(rigid, reflect):
    d = rigid.n_dims
    turn = random_rotation((B, 1), d) @ torch.diag(torch.tensor([1.0] * (d - 1) + [-1.0 if reflect else 1.0]))
    return rigid.move(turn)


@pytest.mark.parametrize("reflect", [False, True])
def test_the_gauge_of_the_truth_does_not_matter(d, reflect):
    _, noise, clean = states(d)
    one, other = couple(clean, noise), couple(turned(clean, reflect), noise)
    assert torch.allclose(one.translation, other.translation, atol=1e-4)
    assert torch.allclose(one.rotation, other.rotation, atol=1e-3)
    assert torch.allclose(one.local_mean, other.local_mean, atol=1e-3)


def test_the_nearest_of_equal_states_is_taken(d):
    _, noise, clean = states(d)
    found = couple(clean, noise)
    gap = (found.translation - noise.translation).square().sum()
    for reflect in (False, True) * 10:
        assert gap <= (turned(clean, reflect).translation - noise.translation).square().sum() + 1e-3
    for one, other in zip(found.to_global(), clean.to_global(), strict=True):  # the same shape
        assert (
            torch.allclose(
                torch.linalg.matrix_norm(one - one.mean(1, keepdim=True)),
                torch.linalg.matrix_norm(other - other.mean(1, keepdim=True)),
                rtol=1e-3,
            )
            or one.ndim == 4
        )
    farthest = np.pi / 2 if d == 2 else 2 * np.pi / 3
    assert rotation_log(noise.rotation.mT @ found.rotation).norm(dim=-1).max() <= farthest + 1e-3


def test_corruption_goes_from_noise_to_clean(d):
    config, noise, clean = states(d)
    for time, expected in ((0.0, noise), (1.0, couple(clean, noise))):
        state, target = corrupt(clean, noise, torch.full((B,), time), config)
        for name in ("rotation", "translation", "scaling_log", "local_mean"):
            assert torch.allclose(getattr(state, name), getattr(expected, name), atol=1e-4)
    half, target = corrupt(clean, noise, torch.full((B,), 0.5), config)
    assert torch.allclose(half.translation, (noise.translation + target.translation) / 2, atol=1e-5)
    assert torch.allclose(half.scaling_log, (noise.scaling_log + target.scaling_log) / 2, atol=1e-5)


def test_poses_alone_keep_their_gaussians(d):
    config, noise, clean = states(d, corrupt_gaussians=False)
    state, target = corrupt(clean, noise, torch.full((B,), 0.7), config)
    assert torch.equal(state.scaling_log, noise.scaling_log)
    assert not torch.equal(state.translation, noise.translation)
    losses = flow_losses(
        output(clean, clean.translation), state, target, torch.rand(B), torch.ones(B, N, dtype=torch.bool), config
    )
    assert losses.local_mean == losses.scaling == 0


def test_losses_are_errors_of_the_velocity(d):
    config, noise, clean = states(d)
    time, mask = torch.tensor([0.1, 0.5, 0.8]), torch.ones(B, N, dtype=torch.bool)
    mask[1, 20:] = False
    state, target = corrupt(clean, noise, time, config)
    turn, shift, mean, scale = 0.1 * torch.randn(B, N, 1 if d == 2 else 3), *(0.1 * torch.randn(3, B, N, d)).unbind(0)
    found = OffsetGaussianRigid(
        target.rotation @ rotation_exp(turn),
        target.translation + shift,
        target.scaling_log + scale,
        target.local_mean + mean,
    )
    losses = flow_losses(output(found, target.translation), state, target, time, mask, config)

    def expected(gap):  # the true velocity is (clean − noise), the predicted one (predicted clean − state) / (1 − t)
        rows = [((gap[b] / (1 - time[b])) ** 2).sum(-1)[mask[b]].mean() for b in range(B)]
        return torch.stack(rows).mean()

    rest = (1 - time)[:, None, None]
    assert torch.allclose(
        (target.translation - state.translation) / rest, target.translation - noise.translation, atol=1e-5
    )
    assert torch.allclose(losses.translation, expected(shift))
    velocity = rotation_log(state.rotation.mT @ found.rotation) - rotation_log(state.rotation.mT @ target.rotation)
    assert torch.allclose(losses.rotation, expected(velocity), atol=1e-5)
    assert torch.allclose(losses.local_mean, expected(mean / 0.2) / d, rtol=1e-4)
    assert torch.allclose(losses.scaling, expected(scale / 0.5) / d, rtol=1e-4)
    near, true = (
        torch.stack([torch.cdist(x[b], x[b]) for b in range(B)]) for x in (found.translation, target.translation)
    )
    gaps = [((near[b] - true[b]) ** 2)[mask[b]][:, mask[b]].mean() for b in (1, 2)]  # not at time 0.1
    assert torch.allclose(losses.auxiliary, sum(gaps) / B, rtol=2e-2)


def test_a_perfect_prediction_costs_nothing_and_terms_are_weighted(d):
    config, noise, clean = states(d)
    time, mask = torch.rand(B), torch.ones(B, N, dtype=torch.bool)
    state, target = corrupt(clean, noise, time, config)
    perfect = flow_losses(output(target, turned(target, True).translation), state, target, time, mask, config)
    assert all(value < 1e-5 for value in perfect.as_dict().values())
    wrong = flow_losses(output(state, target.translation), state, target, time, mask, config)
    terms = wrong.as_dict()
    assert list(terms) == ["translation", "rotation", "local_mean", "scaling", "auxiliary"]
    assert wrong.total(FlowWeights()).item() == pytest.approx(sum(value.item() for value in terms.values()))
    gaussian = terms["local_mean"] + terms["scaling"]
    assert wrong.total(FlowWeights(ellipsoid=0.25)).item() == pytest.approx(
        (wrong.total(FlowWeights()) - 0.75 * gaussian).item(), rel=1e-5
    )


def test_gradients_are_finite_at_both_ends(d):
    config, noise, clean = states(d)
    for value in (0.0, 1.0):
        time = torch.full((B,), value)
        state, target = corrupt(clean, noise, time, config)
        found = state.to_vector().requires_grad_()
        out = output(OffsetGaussianRigid.from_vector(found), replace(target).translation)
        mask = torch.ones(B, N, dtype=torch.bool)
        flow_losses(out, state, target, time, mask, config).total(FlowWeights()).backward()
        assert torch.isfinite(found.grad).all()
