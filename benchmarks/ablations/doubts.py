"""What tells the misplaced cells of a held-out section: mistakes on training slides, samples of the flow, or both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

import ipar
from benchmarks.ablations.fits import Coords, Placed, fit_model, read
from benchmarks.tasks.scores import ranked
from benchmarks.tasks.tasks import Slides
from ipar.model import Blend, PoseSamples
from ipar.model.uncertainty import joint_sign, spread_of
from ipar.training import Run

SCORES = {
    "uncertainty_spearman": "Spearman with the true error",
    "certain_half_error": "certain half: mean error ÷ that of all",
    "certain_half_median": "certain half: median error ÷ that of all",
}


def measure(slides: Slides, seed: int) -> dict[str, dict[str, float]]:
    """How every sign ranks the errors of a default fit."""
    placed = Placed.by(fit_model(slides, seed), read(slides)[1], seed)
    errors = ipar.metrics.cell_errors(slides.truth, placed.default())
    found = {name: ranked(errors, sign) for name, sign in signs(placed, seed).items()}
    return {name: {key: one[key] for key in SCORES} for name, one in found.items()}


def signs(placed: Placed, seed: int) -> dict[str, NDArray[np.floating]]:
    """What may tell an error, by name; more is less certain."""
    flow, head = placed.model.flow, placed.model.uncertainty
    assert flow is not None
    assert head is not None
    assert placed.expected is not None
    features = placed.features.rows(np.argsort(placed.order))
    layouts = [placed.finished(Blend(share)) for share in (0.0, 1.0)] + [placed.back(placed.expected)]
    value, spread = head.value(features), partial(spread_of, flow, features.embedding, run=Run(seed))
    return {
        "how far network, overview and flow disagree": disagreement(placed.default(), layouts),
        "mistakes on training slides (`flow=False`)": value,
        "spread of samples of the flow": spread(head=head),
        "… of eight samples instead of sixteen": spread(head=replace(head, n_samples=head.n_samples // 2)),
        "… of samples of a fifth of the cells": spread(head=replace(head, most_drawn=len(value) // 5)),
        "both, by the sum of their normal scores (the default)": joint_sign(value, spread(head=head)),
    }


def disagreement(onto: Coords, layouts: list[Coords]) -> NDArray[np.floating]:
    """Root mean squared distance of each cell's places from their mean, once the layouts are aligned, ``(n,)``."""
    places = np.stack([ipar.metrics.procrustes_align(onto, layout) for layout in layouts])
    return PoseSamples(places, np.empty((*places.shape[:2], 0))).uncertainty
