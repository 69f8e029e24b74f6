"""ipar with the least training that goes through every step, on fewer cells: for tutorials, which are run in a kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import ipar
from ipar.model import Sharpening
from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training import (
    EncoderRecipe,
    EncoderTraining,
    FinishRecipe,
    FlowRecipe,
    FlowTraining,
    IPALiteTraining,
    MinisetPlan,
    NetworkRecipe,
    Recipe,
    SetEncoderTraining,
    UncertaintyRecipe,
)

N_CELLS = 240
FEW = EncoderTraining(n_steps=15, batch_size=128)
FLOW = FlowRecipe(
    config=IGAConfig(d_state=16, d_head=8),
    training=FlowTraining(gate_steps=10),
    plan=MinisetPlan(n_minisets=4, size=(48, 64), n_neighbors=24),
    n_tried=4,
    n_steps_tried=4,
    refit_epochs=1,
)
RECIPE = Recipe(
    embed=EncoderRecipe(
        pca_hidden=(32,),
        genes_hidden=(32,),
        pca_training=FEW,
        genes_training=FEW,
        set_encoder_training=SetEncoderTraining(n_steps=2, most_times=1.0),
        n_minisets=2,
    ),
    network=NetworkRecipe(
        config=IPALiteConfig(d_state=32, d_head=8),
        training=IPALiteTraining(gate_steps=10),
        plan=MinisetPlan(n_minisets=6, size=(64, 96)),
        n_validation=2,
        refit_epochs=1,
    ),
    finish=FinishRecipe(sharpening=Sharpening(n_steps=20), holds=(0.6,), slide_pc_shares=(0.2,), n_minisets=2),
    uncertainty=UncertaintyRecipe(n_samples=2, most_drawn=100),
    most_cells=300,
)


def forced(function: Callable[..., Any], **least: Any) -> Callable[..., Any]:
    """The function with these arguments, also where a tutorial asks for others."""
    return lambda *args, **options: function(*args, **(options | least))


def fewer(function: Callable[..., Any], n_cells: int) -> Callable[..., Any]:
    """The function with as many cells of what it returns, evenly of all slides."""

    def call(*args: Any, **options: Any) -> Any:
        found = function(*args, **options)
        n = min(n_cells, found.n_obs)
        return found[np.random.default_rng(0).permutation(found.n_obs)[:n]].copy()

    return call


def shorten() -> None:
    """Replace the functions of ipar that take time by short ones, in this process."""
    ipar.pp.embed = functools.partial(ipar.pp.embed, recipe=RECIPE.embed)
    ipar.tl.fit_ipalite = forced(ipar.tl.fit_ipalite, recipe=RECIPE, max_epochs=2, quality="default")
    ipar.tl.fit_iga = forced(ipar.tl.fit_iga, recipe=replace(RECIPE, flow=FLOW), max_epochs=2)
    ipar.tl.sample_coords = forced(ipar.tl.sample_coords, n_samples=8, n_steps=3)
    ipar.baselines.distance_embedding_mds = functools.partial(ipar.baselines.distance_embedding_mds, n_steps=15)
    ipar.datasets.fetch = fewer(ipar.datasets.fetch, 700)
    ipar.tl.attention_diagnostics = forced(ipar.tl.attention_diagnostics, n_minisets=2)
    ipar.tl.decompose_gap = forced(ipar.tl.decompose_gap, n_minisets=2)
    for name in ("layered_tissue", "layered_tissue_dissociated", "liver_lobules"):
        setattr(ipar.datasets, name, forced(getattr(ipar.datasets, name), n_cells=N_CELLS))
