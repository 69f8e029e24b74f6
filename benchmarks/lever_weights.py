"""Layouts by what components are made of: genes alike or by how well they tell places apart, and the kind of axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import lever_spots
import tasks
from ipar._expression import Expression
from ipar._steps import FEW_CELLS
from ipar.model import Sharpening
from ipar.model.sharpening import sharpen_layout
from ipar.training import EncoderRecipe
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import Layouts, overview_of
from lever_panels import scored, taught_and_asked

_PLAIN: dict[str, Any] = {"n_pcs": (30, 100), "spatial_share": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "all genes alike": {"weigh_genes": False, **_PLAIN},
    "genes by place": {"weigh_genes": True, **_PLAIN},
}
_SHARPENING = Sharpening(own=0.2)


def measure(
    fold: tasks.Task, seed: int, data: Path, scores: tuple[str, ...], ways: dict[str, dict[str, Any]] = WAYS
) -> dict[str, Any]:
    """Scores of every layout of a fold of sections, or of half of the slide that taught and placed cells are dealt from."""
    known, query, truth = taught_and_asked(fold, seed, data)
    kind = "half of an embryo" if fold == lever_spots.SLIDE else f"{len(known)} sections teach"
    return scored(kind, layouts(known, query, seed, ways), truth, scores)


def layouts(known: list[Slide], query: Expression, seed: int, ways: dict[str, dict[str, Any]] = WAYS) -> Layouts:
    """The overview and the same sharpened, by neighbours in components of the genes as they count; ways change recipes."""
    many = sum(slide.expression.shape[0] for slide in known) > FEW_CELLS
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    for name, changes in ways.items():
        options: dict[str, Any] = {"overview": True, "sketch": many, "random_state": seed}
        recipe = replace(EncoderRecipe(), **changes)
        n_pcs = recipe.sizes[-1] if many else recipe.sizes[0]  # as left-out slides have it mostly
        recipe = replace(recipe, n_pcs=n_pcs)
        encoder = fit_encoder(known, query.genes, ["both"], recipe, **options)["both"]
        h, far, across = encoder.views(query.matrix, query.genes, one)
        layout = overview_of(across)
        yield name, layout
        own = encoder.own_components(query.matrix, query.genes, one)
        sharp = sharpen_layout(layout, h, far, _SHARPENING, components=own, random_state=seed)
        yield f"{name}, sharpened", sharp
