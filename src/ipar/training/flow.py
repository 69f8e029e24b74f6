"""Fitting the generative model of poses on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ipar._run import Run
from ipar.model.flow import Flow
from ipar.nn.gate import EdgeGate
from ipar.nn.iga import IGANet
from ipar.nn.iga_config import IGAConfig
from ipar.training.epochs import Trained, copy_weights
from ipar.training.flow_training import FlowTrainer, FlowTraining
from ipar.training.folds import Folds
from ipar.training.held_out import Cells, MinisetPlan, StageFit, StageRecipe, train_held_out
from ipar.training.pose_sets import PoseSet, ellipse_units, sample_pose_sets


@dataclass(frozen=True)
class FlowRecipe(StageRecipe):
    """How the flow is fitted.

    Attributes
    ----------
    config
        Shape of the network; dimensions, width of the embedding and units of the ellipses are taken from the data.
    training
        Optimiser, loss weights and augmentation.
    n_tried, n_steps_tried
        Samples of the held-out slide, and steps of each, that the sharpening of a mean of samples is chosen on.
    """

    plan: MinisetPlan = field(default_factory=lambda: MinisetPlan(n_minisets=48, size=(128, 256), n_neighbors=48))
    n_validation: int = 4
    refit_epochs: int = 8
    config: IGAConfig = field(default_factory=IGAConfig)
    training: FlowTraining = field(default_factory=FlowTraining)
    n_tried: int = 10
    n_steps_tried: int = 25


def fit_flow(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: FlowRecipe,
    run: Run,
) -> StageFit[Flow]:
    """Train without the held-out slide, which chooses the epoch, then go on with all slides.

    Takes cross-fitted embeddings ``(n_s, e)``, coordinates and ellipses ``(n_s, 5 or 9)`` of the training slides.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    plan = recipe.plan
    h, x, shapes = ([torch.from_numpy(part) for part in parts] for parts in (embeddings, coords, ellipses))

    def draw(cells: Sequence[Cells], n_sets: int, seed: int) -> list[PoseSet]:
        own = [[part[i][rows] for i, rows in cells] for part in (h, x, shapes)]
        return sample_pose_sets(
            own[0], own[1], own[2], n_sets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed
        )

    # units are those of the run without the held-out slide, also when all are trained on
    units = ellipse_units(draw(folds.rest(), plan.n_minisets, run.seed))
    shape = replace(recipe.config, n_dims=coords[0].shape[1], d_input=embeddings[0].shape[1], units=units)

    def train(sets: Sequence[PoseSet], held_out: Sequence[PoseSet], start: Flow | None) -> tuple[Flow, Trained]:
        with run.seeded():
            net, gate = IGANet(shape).to(run.device), EdgeGate(shape.d_input).to(run.device)
        training = recipe.training
        if start is not None:
            copy_weights(start.modules, (net, gate))
            training = training.going_on(recipe.refit_epochs)
        trained = FlowTrainer(net, gate, training, run).fit(sets, held_out)
        return Flow(net.cpu(), gate.cpu(), plan.n_neighbors, plan.size), trained

    return train_held_out(folds, draw, train, recipe, run)
