"""Training with one slide left out to choose the number of epochs, then again on all slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from ipar.nn import EdgeGate
from ipar.training._epochs import Trained

FEW_SLIDES = 3  # up to so many, one is much: networks are trained again on all of them

Slide = TypeVar("Slide")
Set = TypeVar("Set")
Net = TypeVar("Net", bound=torch.nn.Module)

Draw = Callable[[Sequence[Slide], "int | None", int], list[Set]]  # slides, number of sets (the plan's, if None), seed
Run = Callable[[Sequence[Set], Sequence[Set], "int | None"], tuple[Net, EdgeGate, Trained]]  # sets, held out, epochs


@dataclass(frozen=True)
class LeftOut(Generic[Net, Set]):
    """Trained networks.

    Attributes
    ----------
    net, gate
        The networks.
    unseen
        The networks as they were before the left-out slide was trained on too.
    held_out
        Sets of the left-out slide.
    run
        The run with a slide left out.
    slide
        Index of the slide left out.
    """

    net: Net
    gate: EdgeGate
    unseen: tuple[Net, EdgeGate]
    held_out: list[Set]
    run: Trained
    slide: int

    @property
    def retrained(self) -> bool:
        """Whether the networks were trained again, on all slides."""
        return self.net is not self.unseen[0]


def train_left_out(
    slides: Sequence[Slide],
    draw: Draw[Slide, Set],
    train: Run[Set, Net],
    *,
    n_validation: int,
    refit: bool,
    random_state: int,
) -> LeftOut[Net, Set]:
    """Choose the epoch on one slide, and train again on all of them.

    Parameters
    ----------
    slides
        All training slides.
    draw
        Gives sets of some slides.
    train
        Trains fresh networks.
    n_validation
        Sets of the left-out slide.
    refit
        Train again on all slides, for as many epochs as were best.
    random_state
        Seed of the choice of the slide and of the sets.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    left = int(np.random.default_rng(random_state).integers(len(slides)))
    held_out = draw([slides[left]], n_validation, random_state + 1)
    sets = draw([slide for i, slide in enumerate(slides) if i != left], None, random_state)
    net, gate, run = train(sets, held_out, None)
    if run.best_epoch < 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    unseen = net, gate
    if refit and not run.interrupted:
        again = train(draw(slides, None, random_state), (), run.best_epoch + 1)
        if not again[2].interrupted:  # half a run is worse than a whole one without the left-out slide
            net, gate = again[:2]
    return LeftOut(net, gate, unseen, held_out, run, left)
