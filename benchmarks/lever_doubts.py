"""What tells the misplaced cells of a left-out section: mistakes on training slides, samples of the flow, or both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ipar
import lever_shares
import lever_spots
import tasks
from ipar.model import PoseSamples
from ipar.model.uncertainty import joint_sign, spread_of
from lever_flow import Finisher
from run import certain_half_median

FOLDS = ("brain2c", "brain5b", "brain5d")
SCORES = {
    "uncertainty_spearman": "Spearman with the true error",
    "certain_half_error": "certain half: mean error ÷ that of all",
    "certain_half_median": "certain half: median error ÷ that of all",
}


def measure(fold: tasks.Task, seed: int, data: Path) -> dict[str, dict[str, float]]:
    """How every sign ranks the errors of a default fit, of a fold of sections or half of a slide of single cells."""
    slides = tasks.load(fold, data)
    if fold == lever_spots.SLIDE:
        slides = lever_shares.dealt_in_halves(slides, seed)
    query = slides.query.copy()
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    model = ipar.tl.fit_ipalite(slides.train.copy(), library_key="slide", **options)
    ipar.tl.predict_coords(query, model, **options)
    errors = ipar.metrics.cell_errors(slides.truth, query.obsm["X_ipar"])
    return {name: ranked(errors, sign) for name, sign in signs(model, query, seed).items()}


def signs(model: ipar.model.IPALite, query: Any, seed: int) -> dict[str, NDArray[np.floating]]:
    """What may tell an error, by name; more is less certain."""
    finish = Finisher(model, query, seed)
    plain = query.copy()
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    ipar.tl.predict_coords(plain, model, global_weight=0.0, flow_weight=0.0, sharpen=False, **options)
    layouts = [plain.obsm["X_ipar"], finish.overview, model.flow_mean(finish.h, seed)]
    value, drawn = model.uncertainty.value(finish.h, finish.far), partial(spread_of, model.flow, finish.h, seed)
    spread = drawn()
    return {
        "how far network, overview and flow disagree": disagreement(query.obsm["X_ipar"], layouts),
        "mistakes on training slides (`flow=False`)": value,
        "spread of samples of the flow": spread,
        "… of eight samples instead of sixteen": drawn(n_samples=8),
        "… of samples of a fifth of the cells": drawn(most_drawn=query.n_obs // 5),
        "both, by the sum of their normal scores (the default)": joint_sign(value, spread),
    }


def disagreement(onto: NDArray[np.float32], layouts: list[NDArray[np.float32]]) -> NDArray[np.floating]:
    """Root mean squared distance of each cell's places from their mean, once the layouts are aligned, ``(n,)``."""
    places = np.stack([ipar.metrics.procrustes_align(onto, layout) for layout in layouts])
    return PoseSamples(places, np.empty((*places.shape[:2], 0))).uncertainty


def ranked(errors: NDArray[np.float64], sign: NDArray[np.floating]) -> dict[str, float]:
    """How well a sign ranks errors."""
    return {
        "uncertainty_spearman": ipar.metrics.uncertainty_spearman(errors, sign),
        "certain_half_error": ipar.metrics.certain_half_error(errors, sign),
        "certain_half_median": certain_half_median(errors, sign),
    }


def section(results: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """A markdown table: a row a sign and fold."""
    lines = [f"| sign | fold | {' | '.join(SCORES.values())} |", "|---" * (len(SCORES) + 2) + "|"]
    for fold, rows in results.items():
        for name, row in rows.items():
            lines.append(f"| {name} | {fold} | {' | '.join(f'{row[key]:.3f}' for key in SCORES)} |")
    return lines
