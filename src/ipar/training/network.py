"""Fitting the layout network and its gate on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ipar._run import Run
from ipar.model import ConsensusPlan, NetworkLayout
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.training.epochs import Trained
from ipar.training.folds import Folds
from ipar.training.held_out import StageFit, train_held_out
from ipar.training.minisets import Miniset, sample_minisets
from ipar.training.network_training import IPALiteTrainer, IPALiteTraining


@dataclass(frozen=True)
class MinisetPlan:
    """Which minisets are drawn.

    Attributes
    ----------
    n_minisets
        How many in all, balanced over slides.
    size
        Smallest and largest.
    n_neighbors
        Candidates per cell within a miniset.
    """

    n_minisets: int = 64
    size: tuple[int, int] = (96, 384)
    n_neighbors: int = 100


@dataclass(frozen=True)
class NetworkRecipe:
    """How the layout network is fitted.

    Attributes
    ----------
    config
        Shape of the network; the width of the embedding is taken from the data.
    training
        Optimiser, loss weights, augmentation and early stopping.
    plan
        Random subsets of slides that are trained on.
    n_validation
        Minisets of the held-out slide, on which the epoch is chosen.
    refit
        Train again on all slides; with fewer than four slides, where one slide is much, if None.
    """

    config: IPALiteConfig = field(default_factory=IPALiteConfig.v1)
    training: IPALiteTraining = field(default_factory=IPALiteTraining)
    plan: MinisetPlan = field(default_factory=MinisetPlan)
    n_validation: int = 12
    refit: bool | None = None


def refits(refit: bool | None, n_slides: int) -> bool:
    """Whether a stage is trained again on all slides."""
    return n_slides < 4 if refit is None else refit


def fit_network(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: NetworkRecipe,
    run: Run,
) -> StageFit[NetworkLayout]:
    """Train without the held-out slide to choose the number of epochs, then again on all slides.

    Parameters
    ----------
    embeddings, coords
        Cross-fitted embeddings ``(n_s, d)`` and coordinates ``(n_s, 2)`` of the training slides.
    folds, recipe, run
        What is held out, how it is trained, and with which seed.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    shape, plan = replace(recipe.config, d_input=embeddings[0].shape[1]), recipe.plan
    h, x = ([torch.from_numpy(part) for part in parts] for parts in (embeddings, coords))
    subsets = ConsensusPlan(direct_max=plan.size[1], subset_size=sum(plan.size) // 2, n_anchors=sum(plan.size) // 6)

    def draw(slides: Sequence[int], n_sets: int | None, seed: int) -> list[Miniset]:
        own = [h[i] for i in slides], [x[i] for i in slides]
        n_sets = n_sets or plan.n_minisets
        return sample_minisets(*own, n_sets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed)

    def train(
        sets: Sequence[Miniset], held_out: Sequence[Miniset], n_epochs: int | None
    ) -> tuple[NetworkLayout, Trained]:
        with run.seeded():
            net, gate = IPALiteNet(shape).to(run.device), EdgeGate(shape.d_input, shape.gate_heads).to(run.device)
        trainer = IPALiteTrainer(net, gate, recipe.training, random_state=run.seed)
        trained = trainer.fit(sets, held_out, n_epochs=n_epochs, progress=run.progress)
        return NetworkLayout(net.cpu(), gate.cpu(), plan.n_neighbors, subsets), trained

    again = refits(recipe.refit, len(h))
    return train_held_out(len(h), folds, draw, train, n_validation=recipe.n_validation, refit=again, run=run)
