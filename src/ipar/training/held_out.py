"""Training without the held-out slide to choose the number of epochs, then again on all slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import pandas as pd

from ipar._run import Run
from ipar.training.epochs import Trained
from ipar.training.folds import Folds

Stage = TypeVar("Stage")
Set = TypeVar("Set")

Draw = Callable[[Sequence[int], int, int], list[Set]]
"""Takes slides, the number of sets and a seed; gives training sets."""
Train = Callable[[Sequence[Set], Sequence[Set], "int | None"], tuple[Stage, Trained]]
"""Takes training sets, held-out sets and a number of epochs (None: the recipe's); gives a fresh trained stage."""


def at_least_one(name: str, value: int) -> int:
    """A number that was given, checked."""
    if value < 1:
        msg = f"{name} must be at least 1, found {value}."
        raise ValueError(msg)
    return value


@dataclass(frozen=True)
class MinisetPlan:
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

    n_minisets: int = 64
    size: tuple[int, int] = (96, 384)
    n_neighbors: int = 100

    def with_numbers(self, **numbers: int | None) -> MinisetPlan:
        """The same with other numbers; those that are None stay."""
        given: dict[str, Any] = {name: at_least_one(name, n) for name, n in numbers.items() if n is not None}
        return replace(self, **given)


@dataclass(frozen=True)
class StageRecipe:
    """How a stage is trained with a held-out slide.

    Attributes
    ----------
    plan
        Random subsets of slides to train on.
    n_validation
        Subsets of the held-out slide, on which the epoch is chosen.
    refit
        Train again on all slides. By default with fewer than four slides, where one slide is much.
    """

    plan: MinisetPlan = field(default_factory=MinisetPlan)
    n_validation: int = 12
    refit: bool | None = None


@dataclass(frozen=True)
class StageFit(Generic[Stage]):
    """A trained stage."""

    stage: Stage  # for prediction
    held_out: Stage  # as it is without the held-out slide: for choices that are made on it
    history: pd.DataFrame  # of the run without that slide, one row per epoch
    best_epoch: int  # the epoch chosen in it


def train_held_out(
    folds: Folds, draw: Draw[Set], train: Train[Set, Stage], recipe: StageRecipe, run: Run
) -> StageFit[Stage]:
    """Choose the epoch on the held-out slide, and train again on all of them.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best weights so far are kept.
    """
    n_sets, everything = recipe.plan.n_minisets, range(len(folds.cells))
    held_out = draw([folds.held_out], recipe.n_validation, run.seed + 1)
    stage, trained = train(draw([i for i in everything if i != folds.held_out], n_sets, run.seed), held_out, None)
    if trained.best_epoch < 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    final = stage
    again = len(everything) < 4 if recipe.refit is None else recipe.refit
    if again and not trained.interrupted:
        refitted, second = train(draw(everything, n_sets, run.seed), (), trained.best_epoch + 1)
        if not second.interrupted:  # half a run is worse than a whole one without the held-out slide
            final = refitted
    return StageFit(final, stage, trained.history, trained.best_epoch)
