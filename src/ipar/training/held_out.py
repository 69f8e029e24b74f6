"""Training without the held-out slide to choose the number of epochs, then again on all slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd

from ipar._run import Run
from ipar.training.epochs import Trained
from ipar.training.folds import Folds

Stage = TypeVar("Stage")
Set = TypeVar("Set")

Draw = Callable[[Sequence[int], "int | None", int], list[Set]]
"""Takes slides, the number of sets (the recipe's, if None) and a seed, gives training sets."""
Train = Callable[[Sequence[Set], Sequence[Set], "int | None"], tuple[Stage, Trained]]
"""Takes training sets, held-out sets and a number of epochs (the recipe's, if None), gives a fresh trained stage."""


@dataclass(frozen=True)
class StageFit(Generic[Stage]):
    """A trained stage.

    Attributes
    ----------
    stage
        For prediction.
    held_out
        The stage as it is without the held-out slide: for choices that are made on it.
    history
        Of the run without that slide, one row per epoch.
    best_epoch
        The epoch chosen in it.
    """

    stage: Stage
    held_out: Stage
    history: pd.DataFrame
    best_epoch: int


def train_held_out(
    n_slides: int,
    folds: Folds,
    draw: Draw[Set],
    train: Train[Set, Stage],
    *,
    n_validation: int,
    refit: bool,
    run: Run,
) -> StageFit[Stage]:
    """Choose the epoch on the held-out slide, and train again on all of them.

    Parameters
    ----------
    n_slides
        Training slides.
    folds
        Which slide is held out.
    draw, train
        Give training sets, and a fresh stage trained on them.
    n_validation
        Sets of the held-out slide.
    refit
        Train again on all slides, for as many epochs as were best.
    run
        Seed of the sets.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best weights so far are kept.
    """
    left = folds.held_out
    held_out = draw([left], n_validation, run.seed + 1)
    stage, trained = train(draw([i for i in range(n_slides) if i != left], None, run.seed), held_out, None)
    if trained.best_epoch < 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    final = stage
    if refit and not trained.interrupted:
        again, second = train(draw(range(n_slides), None, run.seed), (), trained.best_epoch + 1)
        if not second.interrupted:  # half a run is worse than a whole one without the held-out slide
            final = again
    return StageFit(final, stage, trained.history, trained.best_epoch)
