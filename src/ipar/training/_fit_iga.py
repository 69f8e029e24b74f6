"""Fitting gate and denoising network on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.nn._iga_config import EllipseUnits
from ipar.training._epochs import Trained
from ipar.training._fit_ipalite import MinisetPlan
from ipar.training._flow_loop import FlowTrainer, FlowTraining
from ipar.training._left_out import train_left_out
from ipar.training._pose_sets import PoseSet, ellipse_units, sample_pose_sets

_N_VALIDATION = 4


@dataclass(frozen=True)
class IGAFit:
    """Fitted networks.

    Attributes
    ----------
    net, gate
        The networks.
    unseen
        The networks as they were before the left-out slide was trained on too: for choices that are made on it.
    history
        Of the run with a slide left out, on which the number of epochs was chosen.
    best_epoch
        Epoch with the lowest pose losses on the left-out slide.
    validation_slide
        Index of the slide left out.
    """

    net: IGANet
    gate: EdgeGate
    unseen: tuple[IGANet, EdgeGate]
    history: pd.DataFrame
    best_epoch: int
    validation_slide: int


def fit_flow(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    ellipses: Sequence[NDArray[np.float32]],
    *,
    config: IGAConfig | None = None,
    training: FlowTraining | None = None,
    plan: MinisetPlan | None = None,
    refit: bool = True,
    random_state: int = 0,
    device: torch.device | None = None,
    progress: bool = False,
) -> IGAFit:
    """Train with one slide left out to choose the number of epochs, then again on all slides.

    Parameters
    ----------
    embeddings, coords, ellipses
        Cross-fitted embeddings ``(n_s, e)``, coordinates ``(n_s, d)`` and ellipses ``(n_s, 5 or 9)`` of the training slides.
    config, training, plan
        Network, recipe and sets; dimensions, width of the embedding and units of the ellipses are taken from the data.
    refit
        Train again on all slides, for as many epochs as were best; otherwise the left-out slide is never trained on.
    random_state
        Seed.
    device
        Where to train.
    progress
        Show bars with the losses.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    training, plan = training or FlowTraining(), plan or MinisetPlan(size=(128, 256), n_neighbors=48)
    shape = replace(config or IGAConfig(), n_dims=coords[0].shape[1], d_input=embeddings[0].shape[1])
    units: EllipseUnits | None = None

    def draw(slides: Sequence[tuple[Tensor, ...]], n_sets: int | None, seed: int) -> list[PoseSet]:
        return draw_poses(slides, plan if n_sets is None else replace(plan, n_minisets=n_sets), seed)

    def train(
        sets: Sequence[PoseSet], held_out: Sequence[PoseSet], n_epochs: int | None
    ) -> tuple[IGANet, EdgeGate, Trained]:
        nonlocal units  # those of the run with a slide left out, also when all are trained on
        units = units or ellipse_units(sets)
        known = replace(shape, units=units)
        return train_flow(sets, held_out, known, training, n_epochs, random_state, device, progress)

    slides = [tuple(map(torch.from_numpy, parts)) for parts in zip(embeddings, coords, ellipses, strict=True)]
    fit = train_left_out(slides, draw, train, n_validation=_N_VALIDATION, refit=refit, random_state=random_state)
    return IGAFit(fit.net, fit.gate, fit.unseen, fit.run.history, fit.run.best_epoch, fit.slide)


def draw_poses(slides: Sequence[tuple[Tensor, ...]], plan: MinisetPlan, random_state: int) -> list[PoseSet]:
    """Pose sets of slides given as embeddings, coordinates and ellipses."""
    h, x, ellipses = zip(*slides, strict=True)
    return sample_pose_sets(
        h, x, ellipses, plan.n_minisets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=random_state
    )


def train_flow(
    train: Sequence[PoseSet],
    validation: Sequence[PoseSet],
    config: IGAConfig,
    training: FlowTraining,
    n_epochs: int | None,
    random_state: int,
    device: torch.device | None = None,
    progress: bool = False,
) -> tuple[IGANet, EdgeGate, Trained]:
    """One run from fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        net, gate = IGANet(config).to(device), EdgeGate(config.d_input).to(device)
    trainer = FlowTrainer(net, gate, training, random_state=random_state)
    return net, gate, trainer.fit(train, validation, n_epochs=n_epochs, progress=progress)
