"""Layouts by components half of which are axes of largest spatial covariance, genes counting as they do by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lever_spots
import lever_weights
import tasks
from lever_panels import scored, taught_and_asked

WAYS: dict[str, dict[str, Any]] = {"half of the axes spatial (the default)": {}}


def measure(fold: tasks.Task, seed: int, data: Path, scores: tuple[str, ...]) -> dict[str, Any]:
    """Scores of every layout of a fold of sections, or of half of the slide that taught and placed cells are dealt from."""
    known, query, truth = taught_and_asked(fold, seed, data)
    kind = "half of an embryo" if fold == lever_spots.SLIDE else f"{len(known)} sections teach"
    return scored(kind, lever_weights.layouts(known, query, seed, WAYS), truth, scores)
