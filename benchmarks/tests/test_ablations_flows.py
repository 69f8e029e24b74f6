from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.ablations import flows
from ipar.nn import IGAConfig
from ipar.nn.pose_flow import noise_poses
from ipar.training import Folds, Run


def test_a_flow_starts_about_its_layout_at_unit_radius():
    places = torch.randn(3, 200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 1.0]) + 7
    noise = noise_poses((3, 200), IGAConfig(), torch.Generator().manual_seed(1))
    found = flows.about(noise, places)
    assert found.translation.mean(1).abs().max() < 1e-5
    # the layout has unit RMS radius; noise of half of that is added
    assert found.translation.square().sum(-1).mean().item() == pytest.approx(1.25, rel=0.1)
    torch.testing.assert_close(found.rotation, noise.rotation)


def test_layouts_to_start_from_are_of_networks_that_never_saw_the_slide(small_recipe):
    rng, recipe = np.random.default_rng(0), small_recipe.network
    h, x = ([rng.normal(size=(60, d)).astype(np.float32) for _ in range(3)] for d in (6, 2))
    folds = Folds.of([60] * 3, Run(0))
    before = flows.cross_fitted_layouts(h, x, folds, recipe, Run(0))
    moved = [x[0][::-1].copy(), *x[1:]]
    after = flows.cross_fitted_layouts(h, moved, folds, recipe, Run(0))
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def test_layouts_have_the_names_of_the_records(slides, hasty_recipe, small_recipe, names_of):
    flow = replace(small_recipe.flow, plan=replace(small_recipe.flow.plan, size=(30, 40)))
    found = dict(flows.layouts(slides, 0, hasty_recipe, small_recipe.network, flow))
    assert list(found) == names_of("flow starts")
    assert {x.shape for x in found.values()} == {slides.truth.shape}
    assert all(np.isfinite(x).all() for x in found.values())
