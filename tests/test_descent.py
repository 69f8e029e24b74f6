"""Descent beside the same steps written with PyTorch alone."""

from __future__ import annotations

import math

import pytest
import torch

from ipar._descent import Descent


def quadratic(x):
    return (x - torch.arange(4.0)).square().sum()


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_steps_are_those_of_pytorch(weight_decay):
    ours, theirs = (torch.zeros(4, requires_grad=True) for _ in range(2))
    Descent([ours], lr=0.1, n_steps=30, lr_end=0.01, weight_decay=weight_decay, clip=1.0).minimise(
        lambda _: quadratic(ours)
    )
    kind, options = (torch.optim.Adam, {}) if weight_decay is None else (torch.optim.AdamW, {"weight_decay": 0.1})
    optimiser = kind([theirs], lr=0.1, **options)
    for step in range(30):
        rate = 0.01 + 0.5 * (0.1 - 0.01) * (1 + math.cos(math.pi * step / 30))  # the cosine by its formula
        optimiser.param_groups[0]["lr"] = rate
        (gradient,) = torch.autograd.grad(quadratic(theirs), theirs)
        theirs.grad = gradient * min(1.0, 1.0 / float(gradient.norm()))
        optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_schedules():
    x = torch.zeros(4, requires_grad=True)
    rates = {}
    for schedule in ("constant", "cosine", "one-cycle"):
        descent, rates[schedule] = Descent([x], lr=0.1, n_steps=20, schedule=schedule, weight_decay=0.0), []
        descent.minimise(lambda _, d=descent, s=schedule: rates[s].append(d.lr) or quadratic(x))
    assert set(rates["constant"]) == {0.1}
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert max(rates["one-cycle"]) == pytest.approx(0.1)
    assert rates["one-cycle"][0] < 0.01
    assert all(len(found) == 20 for found in rates.values())
