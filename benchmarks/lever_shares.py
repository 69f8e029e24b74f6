"""Layouts of what was left out by the default's three parts, with the flow and without it, and by other shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ipar
import lever_spots
import tasks
from ipar.model.ipalite import FLOW_WEIGHT
from ipar.training.finish import BESIDE_FLOW, RETRAINED_WEIGHT
from lever_flow import Finisher, blended
from lever_layouts import Layouts
from lever_panels import scored

FOLDS = ("brain2b", "brain2c", "brain2d", "brain5", "brain5b", "brain5d")
SHARES = {  # of the overview beside the network, and of the flow beside both
    "network and overview, sharpened (`flow=False`)": (RETRAINED_WEIGHT, 0.0),
    "network, overview, flow: 0.1, 0.4, 0.5, sharpened": (0.8, 0.5),
    "network, overview, flow: 0.25, 0.25, 0.5, sharpened (the default)": (BESIDE_FLOW, FLOW_WEIGHT),
}
TAUGHT = (0.3, 0.0)  # shares of the embedding's own distances in those that the sharpening holds


def measure(fold: tasks.Task, seed: int, data: Path, scores: tuple[str, ...]) -> dict[str, Any]:
    """Scores of every layout of a fold of sections, or of half of a slide of single cells."""
    slides = tasks.load(fold, data)
    kind = f"{len(fold.train or ())} sections teach"
    if fold == lever_spots.SLIDE:
        slides, kind = dealt_in_halves(slides, seed), "half of an embryo"
    return scored(kind, layouts(slides, seed), slides.truth, scores)


def dealt_in_halves(one: tasks.Slides, seed: int) -> tasks.Slides:
    """A random half of a slide's cells, itself dealt into two slides, teaches; the other half is placed."""
    lot = np.random.default_rng(seed).random(one.query.n_obs)
    taught = lot < 0.5
    train = one.query[taught].copy()
    train.obs["slide"] = pd.Categorical(np.where(lot[taught] < 0.25, "a", "b"))
    train.obsm["spatial"] = one.truth[taught]
    return tasks.Slides(train, one.query[~taught].copy(), one.truth[~taught])


def layouts(slides: tasks.Slides, seed: int) -> Layouts:
    """One default fit; the flow's expected layout, and what becomes of all parts by their shares."""
    query = slides.query.copy()
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    model = ipar.tl.fit_ipalite(slides.train.copy(), library_key="slide", **options)
    ipar.tl.predict_coords(query, model, global_weight=0.0, flow_weight=0.0, sharpen=False, **options)
    network, finish = query.obsm["X_ipar"].copy(), Finisher(model, query, seed)
    flow = model.flow_mean(finish.h, seed)
    yield "the layout that the flow expects", flow
    for name, (overview, part) in SHARES.items():
        first = blended(network, finish.overview, overview)
        yield name, finish.sharpened(blended(first, flow, part) if part else first)
    usual = blended(blended(network, finish.overview, BESIDE_FLOW), flow, FLOW_WEIGHT)
    for taught in TAUGHT:
        name = f"the default, less held of the embedding's distances (τ = {taught:g})"
        yield name, finish.sharpened(usual, taught=taught)
