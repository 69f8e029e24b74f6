"""Fitting the denoising network and its gate on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ipar._run import Run
from ipar.model import Flow
from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.training.epochs import Trained
from ipar.training.flow_training import FlowTrainer, FlowTraining
from ipar.training.folds import Folds
from ipar.training.held_out import StageFit, train_held_out
from ipar.training.network import MinisetPlan, refits
from ipar.training.pose_sets import PoseSet, ellipse_units, sample_pose_sets


@dataclass(frozen=True)
class FlowRecipe:
    """How the flow is fitted.

    Attributes
    ----------
    config
        Shape of the network; dimensions, width of the embedding and units of the ellipses are taken from the data.
    training
        Optimiser, loss weights and augmentation.
    plan
        Random subsets of slides that are trained on.
    n_validation
        Subsets of the held-out slide, on which the epoch is chosen.
    n_tried, n_steps_tried
        Samples of the held-out slide, and steps of each, that the sharpening of a mean of samples is chosen on: half of what
        is drawn by default, in a quarter of the time.
    refit
        Train again on all slides; with fewer than four slides, where one slide is much, if None.
    """

    config: IGAConfig = field(default_factory=IGAConfig)
    training: FlowTraining = field(default_factory=FlowTraining)
    plan: MinisetPlan = field(default_factory=lambda: MinisetPlan(n_minisets=48, size=(128, 256), n_neighbors=48))
    n_validation: int = 4
    n_tried: int = 10
    n_steps_tried: int = 25
    refit: bool | None = None


def fit_flow(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: FlowRecipe,
    run: Run,
) -> StageFit[Flow]:
    """Train without the held-out slide to choose the number of epochs, then again on all slides.

    Parameters
    ----------
    embeddings, coords, ellipses
        Cross-fitted embeddings ``(n_s, e)``, coordinates ``(n_s, d)`` and ellipses ``(n_s, 5 or 9)`` of the training slides.
    folds, recipe, run
        What is held out, how it is trained, and with which seed.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    plan = recipe.plan
    h, x, shapes = ([torch.from_numpy(part) for part in parts] for parts in (embeddings, coords, ellipses))

    def draw(slides: Sequence[int], n_sets: int | None, seed: int) -> list[PoseSet]:
        return sample_pose_sets(
            [h[i] for i in slides],
            [x[i] for i in slides],
            [shapes[i] for i in slides],
            n_sets or plan.n_minisets,
            size=plan.size,
            n_neighbors=plan.n_neighbors,
            random_state=seed,
        )

    # units are those of the run without the held-out slide, also when all are trained on
    units = ellipse_units(draw([i for i in range(len(h)) if i != folds.held_out], None, run.seed))
    shape = replace(recipe.config, n_dims=coords[0].shape[1], d_input=embeddings[0].shape[1], units=units)

    def train(sets: Sequence[PoseSet], held_out: Sequence[PoseSet], n_epochs: int | None) -> tuple[Flow, Trained]:
        with run.seeded():
            net, gate = IGANet(shape).to(run.device), EdgeGate(shape.d_input).to(run.device)
        trainer = FlowTrainer(net, gate, recipe.training, random_state=run.seed)
        trained = trainer.fit(sets, held_out, n_epochs=n_epochs, progress=run.progress)
        return Flow(net.cpu(), gate.cpu(), plan.n_neighbors, plan.size), trained

    again = refits(recipe.refit, len(h))
    return train_held_out(len(h), folds, draw, train, n_validation=recipe.n_validation, refit=again, run=run)
