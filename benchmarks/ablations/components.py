"""Layouts by what components are made of, and by the share of a panel's genes that training drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.ablations.fits import Layouts, fit, map_and_sharpened, read, sized
from benchmarks.tasks.tasks import Slides
from ipar.nn import SharedEncoder
from ipar.training import EncoderRecipe

N_GENES = 350  # of a panel
DROPPED = {"a half dropped": 0.5, "a fifth dropped": 0.2}
Ways = Mapping[str, Mapping[str, Any]]
"""Changes of the recipe, by the names of their layouts."""

_PLAIN: dict[str, Any] = {"n_pcs": (30, 100), "spatial_share": 0.0}
WEIGHTS: Ways = {
    "all genes alike": {"weigh_genes": False, **_PLAIN},
    "genes by place": {"weigh_genes": True, **_PLAIN},
}
AXES: Ways = {"half of the axes spatial (the default)": {}}
RECIPE = EncoderRecipe()


def layouts(slides: Slides, seed: int, ways: Ways, recipe: EncoderRecipe = RECIPE) -> Layouts:
    """The global map and the same sharpened; ways change the recipe."""
    known, query = read(slides)
    for name, changes in ways.items():
        encoder = fit(known, sized(replace(recipe, **changes), known), seed)
        yield from map_and_sharpened(name, encoder, query)


def layouts_of_panels(slides: Slides, seed: int, recipe: EncoderRecipe = RECIPE) -> Layouts:
    """The same; nothing but the network that reads genes differs."""
    known, query = read(slides)
    recipe, trained = sized(recipe, known), dict[str, SharedEncoder]()
    for name, share in DROPPED.items():
        changed = replace(recipe, genes_input_dropout=share, panel_input_dropout=share)
        encoder = fit(known, changed, seed, trained=trained)
        trained = {part.source: part.net for part in encoder.parts if part.source == "pca"}
        yield from map_and_sharpened(name, encoder, query)


def as_panel(slides: Slides) -> Slides:
    """The slides with the genes that vary most within those that teach."""
    known, _ = read(slides)
    spread = np.mean([slide.expression.toarray().var(axis=0) for slide in known], axis=0)
    panel = np.sort(np.argsort(-spread, kind="stable")[:N_GENES])
    return Slides(slides.train[:, panel].copy(), slides.query[:, panel].copy(), slides.truth)
