from __future__ import annotations

import numpy as np
import pytest
import torch

from ipar.geometry import gauge_fix


@pytest.fixture
def layouts():
    """Three layouts of 40 cells far from the origin and of very unlike extents, float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 2, generator=generator, dtype=torch.float64)
    return x * torch.tensor([900.0, 1.0, 1e-3])[:, None, None] + torch.tensor([3000.0, -200.0])


def test_centred_and_of_unit_rms_radius(layouts):
    for fixed in gauge_fix(layouts).numpy():
        assert fixed.mean(axis=0) == pytest.approx(0.0, abs=1e-9)
        assert np.sqrt((fixed**2).sum(axis=1).mean()) == pytest.approx(1.0)


def test_idempotent(layouts):
    once = gauge_fix(layouts)
    assert torch.allclose(gauge_fix(once), once, atol=1e-12)


def test_forgets_shift_and_scale_but_not_turn(layouts):
    fixed = gauge_fix(layouts)
    assert torch.allclose(gauge_fix(3.5 * layouts - 40.0), fixed, atol=1e-8)
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0]
    assert torch.allclose(gauge_fix(layouts @ turn), fixed @ turn, atol=1e-9)
    assert not torch.allclose(gauge_fix(layouts @ turn), fixed, atol=0.1)


def test_padding_counts_for_nothing(layouts):
    sizes, padded = [40, 13, 27], layouts.clone()
    mask = torch.arange(40) < torch.tensor(sizes)[:, None]
    padded[~mask] = 1e6
    fixed = gauge_fix(padded, mask)
    for i, size in enumerate(sizes):
        assert torch.allclose(fixed[i, :size], gauge_fix(layouts[i, :size]), atol=1e-8)
        assert (fixed[i, size:] == 0).all()


def test_mask_need_not_be_a_prefix(layouts):
    mask = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) < 0.5
    fixed = gauge_fix(layouts, mask)
    for i in range(3):
        assert torch.allclose(fixed[i, mask[i]], gauge_fix(layouts[i, mask[i]]), atol=1e-8)


@pytest.mark.parametrize("place", [0.0, 3.3, -1000.7])
@pytest.mark.parametrize("masked", [False, True])
def test_coincident_points_lie_at_zero_with_finite_gradients(place, masked):
    # in float32 the mean of equal numbers is off by a rounding error, which must not be blown up to radius 1
    x = torch.full((2, 150, 2), place, requires_grad=True)
    fixed = gauge_fix(x, torch.ones(2, 150, dtype=torch.bool) if masked else None)
    assert (fixed == 0).all()
    fixed.square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_set_that_is_all_padding_is_zero():
    fixed = gauge_fix(torch.randn(2, 5, 2), torch.tensor([[True] * 5, [False] * 5]))
    assert (fixed[1] == 0).all()
    assert torch.isfinite(fixed).all()


def test_gradient_is_the_numerical_one(layouts):
    x = gauge_fix(layouts[:, :6]).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 4, 5])[:, None]
    assert torch.autograd.gradcheck(lambda y: gauge_fix(y, mask), x)


def test_no_gradient_along_shift_and_scale(layouts):
    # the output does not depend on them, so a loss on it must not pull there
    x = layouts[1].clone().requires_grad_()
    target = torch.randn(40, 2, dtype=torch.float64)
    (gauge_fix(x) - target).square().sum().backward()
    assert x.grad.sum(0).abs().max() < 1e-9
    assert (x.grad * (x.detach() - x.detach().mean(0))).sum().abs() < 1e-9
