"""ipar with the least training that goes through every step, on fewer cells: for tutorials, which are run in a kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import ipar
from ipar.nn import IPALiteConfig
from tests.conftest import SMALL_FLOW, SMALL_RECIPE

N_CELLS = 240
NETWORK = replace(
    SMALL_RECIPE.network, config=IPALiteConfig(d_state=16, d_head=8)
)  # all recycles, which tutorials show
RECIPE = replace(SMALL_RECIPE, network=NETWORK, most_cells=300)


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
    ipar.tl.fit_iga = forced(ipar.tl.fit_iga, recipe=replace(RECIPE, flow=SMALL_FLOW), max_epochs=2)
    ipar.tl.sample_coords = forced(ipar.tl.sample_coords, n_samples=8, n_steps=3)
    ipar.baselines.distance_embedding_mds = functools.partial(ipar.baselines.distance_embedding_mds, n_steps=15)
    ipar.datasets.fetch = fewer(ipar.datasets.fetch, 700)
    ipar.tl.attention_diagnostics = forced(ipar.tl.attention_diagnostics, n_minisets=2)
    ipar.tl.decompose_gap = forced(ipar.tl.decompose_gap, n_minisets=2)
    for name in ("layered_tissue", "layered_tissue_dissociated", "liver_lobules"):
        setattr(ipar.datasets, name, forced(getattr(ipar.datasets, name), n_cells=N_CELLS))
