"""What is left out of what: the one draw of a fit, and that nothing of it leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipar._run import Run
from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training import FlowRecipe, Folds, MinisetPlan, NetworkRecipe
from ipar.training.flow import fit_flow
from ipar.training.network import IPALiteTraining, fit_network

PLAN = MinisetPlan(n_minisets=6, size=(40, 60), n_neighbors=15)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(4, 3000), min_size=2, max_size=9), st.integers(2, 5), st.integers(0, 2**31 - 1))
def test_every_slide_is_left_out_once_and_one_is_held_out(sizes, n_folds, seed):
    folds = Folds.of(sizes, Run(seed), n_folds=n_folds, most_cells=500)
    assert len(folds.groups) == min(n_folds, len(sizes))
    assert sorted(sum(folds.groups, ())) == list(range(len(sizes)))
    counts = [len(group) for group in folds.groups]
    assert max(counts) - min(counts) <= 1
    assert all(i in folds.group_of(i) for i in range(len(sizes)))
    assert 0 <= folds.held_out < len(sizes)
    for size, cells in zip(sizes, folds.cells, strict=True):
        assert len(cells) == min(size, 500) == len(set(cells.tolist()))
        assert np.array_equal(cells, np.sort(cells))
        assert cells.max() < size


def test_seeds_and_too_few_folds():
    one, again = (Folds.of([90] * 8, Run(3)) for _ in range(2))
    assert (one.groups, one.held_out) == (again.groups, again.held_out)
    assert len({Folds.of([90] * 8, Run(seed)).held_out for seed in range(20)}) > 3
    with pytest.raises(ValueError, match="n_folds must be at least 2, found 1"):
        Folds.of([90] * 8, Run(), n_folds=1)


def slides(n=3, width=8):
    rng = np.random.default_rng(0)
    coords = [rng.normal(size=(80, 2)).astype(np.float32) for _ in range(n)]
    lift = rng.normal(size=(2, width))
    embeddings = [(x @ lift + 0.1 * rng.normal(size=(80, width))).astype(np.float32) for x in coords]
    ellipses = [np.tile(np.array([0.0, 0.0, 0.2, 0.1, 0.3], dtype=np.float32), (80, 1)) for _ in range(n)]
    return embeddings, coords, ellipses


def network(parts, folds, **changes):
    recipe = NetworkRecipe(
        config=IPALiteConfig(d_state=16, n_heads=2, d_head=8, n_recycles=2),
        training=IPALiteTraining(max_epochs=2, ramp_epochs=1, gate_steps=3),
        plan=PLAN,
        n_validation=2,
    )
    return fit_network(*parts[:2], folds, replace(recipe, **changes), Run())


def flow(parts, folds, **changes):
    config = IGAConfig(d_state=16, n_heads=2, d_head=8, n_blocks=2)
    recipe = FlowRecipe(plan=PLAN, n_validation=2, config=config, refit_epochs=2)
    recipe = replace(recipe, training=replace(recipe.training, max_epochs=1, gate_steps=3), **changes)
    return fit_flow(*parts, folds, recipe, Run())


def same(a, b):
    pairs = zip(a.modules, b.modules, strict=True)
    return all(
        torch.equal(x, y) for one, other in pairs for x, y in zip(one.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("fit", [network, flow])
def test_other_coordinates_on_the_held_out_slide_change_no_bit_of_what_is_fitted_without_it(fit):
    parts = slides()
    folds = Folds.of([80] * 3, Run())
    assert folds.share_known == pytest.approx(2 / 3)
    assert Folds.of([80] * 2, Run()).share_known == pytest.approx(1 / 2)
    assert Folds.of([80] * 6, Run()).share_known == pytest.approx(2 / 3)
    before = fit(parts, folds, refit=True)
    moved = [x.copy() for x in parts[1]]
    moved[folds.held_out] = np.random.default_rng(1).normal(size=(80, 2)).astype(np.float32)
    after = fit((parts[0], moved, parts[2]), folds, refit=True)
    assert same(before.held_out, after.held_out)  # one epoch counts: none is left to choose on that slide
    assert not same(before.stage, after.stage)  # trained again, on that slide too
    alone = fit(parts, folds, refit=False)
    assert alone.stage is alone.held_out


def test_network_and_flow_are_held_out_from_the_same_slide():
    parts = slides()
    for held_out in range(3):
        folds = replace(Folds.of([80] * 3, Run()), held_out=held_out)
        spoilt = [x.copy() for x in parts[1]]
        spoilt[held_out][:] = spoilt[held_out][::-1]
        for fit in (network, flow):
            one, other = (fit((parts[0], x, parts[2]), folds, refit=False) for x in (parts[1], spoilt))
            assert same(one.stage, other.stage)
            assert not same(one.stage, fit(parts, folds, refit=True).stage)
