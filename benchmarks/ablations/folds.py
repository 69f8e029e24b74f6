"""What ablations are measured on: training slides that are held out. No slide that ``benchmarks.run`` scores takes part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.tasks import tasks
from benchmarks.tasks.tasks import Slides, Task

_BRAIN = "mouse_brain_st.h5ad"
_TAUGHT_BY = {
    "brain5": ("Hippo8", ("Hippo1", "Hippo2", "Hippo4", "Hippo5", "Hippo7")),
    "brain5b": ("Hippo1", ("Hippo2", "Hippo4", "Hippo5", "Hippo7", "Hippo8")),
    "brain5c": ("Hippo5", ("Hippo1", "Hippo2", "Hippo4", "Hippo7", "Hippo8")),
    "brain5d": ("Hippo4", ("Hippo1", "Hippo2", "Hippo5", "Hippo7", "Hippo8")),
    "brain5e": ("Hippo2", ("Hippo1", "Hippo4", "Hippo5", "Hippo7", "Hippo8")),
    "brain5f": ("Hippo7", ("Hippo1", "Hippo2", "Hippo4", "Hippo5", "Hippo8")),
    "brain2": ("Hippo5", ("Hippo1", "Hippo2")),
    "brain2b": ("Hippo8", ("Hippo4", "Hippo7")),
    "brain2c": ("Hippo4", ("Hippo5", "Hippo8")),
    "brain2d": ("Hippo7", ("Hippo1", "Hippo8")),
}
SECTIONS = {name: Task(name, _BRAIN, test, train, "") for name, (test, train) in _TAUGHT_BY.items()}
EMBRYO = Task(
    "embryo1", "mouse_embryo_seqfish.h5ad", "embryo1", None, "", counts=False
)  # single cells, dealt in halves
WHOLE = {name: Task(name, _BRAIN, name, None, "") for name in ("Hippo1", "Hippo4", "Hippo5", "Hippo8")} | {
    EMBRYO.name: EMBRYO
}
"""Slides that are looked at by themselves."""
FOLDS = {**SECTIONS, EMBRYO.name: EMBRYO}
MANY_CELLS = 2500  # more of them teach as many components as are tried


def load(fold: str, seed: int, data: Path, *, n_slides: int = 2) -> Slides:
    """A fold of sections, or the two halves of the embryo, of which one teaches as so many slides."""
    slides = tasks.load(FOLDS[fold], data)
    return halves(slides, seed, n_slides) if fold == EMBRYO.name else slides


def kind_of(fold: str) -> str:
    """What teaches, as the names of layouts begin."""
    return "half of an embryo" if fold == EMBRYO.name else f"{len(FOLDS[fold].train or ())} sections teach"


def spelled(fold: str) -> str:
    """A fold with the sections that teach and the one that is placed."""
    return f"{fold} ({' + '.join(FOLDS[fold].train or ())} → {FOLDS[fold].test})"


def halves(one: Slides, seed: int, n_slides: int) -> Slides:
    """A random half of a slide's cells teaches, dealt into one slide or two; the other half is placed."""
    rng, n = np.random.default_rng(seed), one.query.n_obs
    if n_slides == 1:
        order = rng.permutation(n)
        taught, asked = order[: n // 2], order[n // 2 :]
        names = np.full(len(taught), "a")
    else:
        lot = rng.random(n)
        taught, asked = np.flatnonzero(lot < 0.5), np.flatnonzero(lot >= 0.5)
        names = np.where(lot[taught] < 0.25, "a", "b")
    train = one.query[taught].copy()
    train.obs["slide"] = pd.Categorical(names)
    train.obsm["spatial"] = one.truth[taught]
    return Slides(train, one.query[asked].copy(), one.truth[asked])
