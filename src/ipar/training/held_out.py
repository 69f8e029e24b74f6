"""Training without the held-out slide, which chooses the epoch, and then on with all slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._options import Checked, Count, Natural, Sizes
from ipar._run import Run
from ipar.training.epochs import Trained
from ipar.training.folds import Folds

Stage = TypeVar("Stage")
Set = TypeVar("Set")

Cells = tuple[int, NDArray[np.int64] | slice]
"""A part of the folds, and some of its cells."""
Draw = Callable[[Sequence[Cells], int, int], list[Set]]
"""Takes cells of some parts, the number of sets and a seed; gives training sets."""
Train = Callable[[Sequence[Set], Sequence[Set], "Stage | None"], tuple[Stage, Trained]]
"""Takes training sets, held-out sets and a stage to go on from (None: a fresh one); gives a trained stage."""


@dataclass(frozen=True)
class MinisetPlan(Checked):
    """Which random subsets of slides are drawn.

    Attributes
    ----------
    n_minisets
        Number of subsets, balanced over slides.
    size
        Smallest and largest number of cells.
    n_neighbors
        Candidates per cell within a subset.
    """

    n_minisets: Count = 64
    size: Sizes = (96, 384)
    n_neighbors: Count = 100

    def with_numbers(self, **numbers: int | None) -> MinisetPlan:
        """The same with other numbers; those that are None stay."""
        given: dict[str, Any] = {name: n for name, n in numbers.items() if n is not None}
        return replace(self, **given)


@dataclass(frozen=True)
class StageRecipe(Checked):
    """How a stage is trained with a held-out slide.

    Attributes
    ----------
    plan
        Random subsets of slides to train on.
    n_validation
        Subsets of the held-out slide, on which the epoch is chosen.
    refit
        Then go on with all slides. By default with fewer than four slides, where one slide is much.
    refit_epochs
        Epochs of that.
    """

    plan: MinisetPlan = field(default_factory=MinisetPlan)
    n_validation: Count = 12
    refit: bool | None = None
    refit_epochs: Natural = 3

    def goes_on(self, n_parts: int) -> bool:
        """Whether it is trained on with all slides, or parts of a section."""
        return n_parts < 4 if self.refit is None else self.refit

    def check_slides(self, n_parts: int) -> None:
        """Raise ValueError if some slide or part would never be learned from."""
        least = n_parts if self.goes_on(n_parts) else n_parts - 1
        if self.plan.n_minisets < least:
            msg = (
                f"n_minisets must be at least the number of slides to learn from, {least}, found {self.plan.n_minisets}: "
                "raise it in the plan of the recipe."
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class StageFit(Generic[Stage]):
    """A trained stage."""

    stage: Stage  # for prediction
    held_out: Stage  # as it is without the held-out slide: for choices that are made on it
    history: pd.DataFrame  # of the run without that slide, one row per epoch
    best_epoch: int  # the epoch chosen in it
    checks: dict[str, Any] = field(default_factory=dict)  # what was checked of it, as plain values for the record


def train_held_out(
    folds: Folds, draw: Draw[Set], train: Train[Set, Stage], recipe: StageRecipe, run: Run
) -> StageFit[Stage]:
    """Train without the held-out slide, choose the epoch on it, and go on with all slides.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best weights so far are kept.
    """
    n_sets = recipe.plan.n_minisets
    everything: list[Cells] = [(i, slice(None)) for i in range(len(folds.parts))]
    held_out = draw([everything[folds.held_out]], recipe.n_validation, run.seed + 1)
    stage, trained = train(draw(folds.rest(), n_sets, run.seed), held_out, None)
    if trained.best_epoch < 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    final = stage
    if recipe.goes_on(len(everything)) and not trained.interrupted:
        refitted, second = train(draw(everything, n_sets, run.seed), (), stage)
        if not second.interrupted:
            final = refitted
    return StageFit(final, stage, trained.history, trained.best_epoch)
