"""Fitting gate and layout network on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.training._epochs import Trained
from ipar.training._left_out import train_left_out
from ipar.training._loop import IPALiteTrainer, IPALiteTraining
from ipar.training._minisets import Miniset, sample_minisets
from ipar.training._validate import sweep_beta

BETAS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
_N_VALIDATION = 12
_Slide = tuple[torch.Tensor, torch.Tensor]  # embeddings and coordinates
_BETA_GAIN = 0.05  # of the energy; one slide is too little evidence to leave the trained β for less


@dataclass(frozen=True)
class MinisetPlan:
    """What minisets are drawn.

    Attributes
    ----------
    n_minisets
        How many in all, balanced over slides.
    size
        Smallest and largest.
    n_neighbors
        Candidates a cell.
    """

    n_minisets: int = 64
    size: tuple[int, int] = (96, 384)
    n_neighbors: int = 100


@dataclass(frozen=True)
class IPALiteFit:
    """Fitted networks.

    Attributes
    ----------
    net, gate
        The networks.
    unseen
        The networks as they were before the left-out slide was trained on too: for choices that are made on it.
    beta
        The gate's weight of the networks: the trained one where they were trained again, for what suits a gate that has
        seen fewer slides, half of them at worst, does not suit this one; otherwise ``unseen_beta``.
    unseen_beta
        The gate's weight by which the networks laid out the slide that they had not seen best, or the trained one where
        that is as good as it.
    betas
        E_geo of the validation slide at every β tried.
    history
        Of the run with a slide left out, on which epochs and β were chosen.
    best_epoch
        Epoch with the lowest validation energy.
    validation_slide
        Index of the slide left out.
    retrained
        Whether the networks were trained again, on that slide too.
    """

    net: IPALiteNet
    gate: EdgeGate
    unseen: tuple[IPALiteNet, EdgeGate]
    beta: float
    unseen_beta: float
    betas: pd.DataFrame
    history: pd.DataFrame
    best_epoch: int
    validation_slide: int
    retrained: bool


def fit_networks(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    *,
    config: IPALiteConfig | None = None,
    training: IPALiteTraining | None = None,
    plan: MinisetPlan | None = None,
    refit: bool = True,
    random_state: int = 0,
    device: torch.device | None = None,
    progress: bool = False,
) -> IPALiteFit:
    """Train with one slide left out to choose epochs and β, then again on all slides.

    Parameters
    ----------
    embeddings, coords
        Cross-fitted embeddings ``(n_s, d)`` and coordinates ``(n_s, 2)`` of the training slides.
    config, training, plan
        Network, recipe and minisets.
    refit
        Train again on all slides for as many epochs as were best; otherwise the left-out slide is never trained on.
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
    training, plan = training or IPALiteTraining(), plan or MinisetPlan()
    shape = replace(config or IPALiteConfig.v1(), d_input=embeddings[0].shape[1])

    def draw(slides: Sequence[_Slide], n_sets: int | None, seed: int) -> list[Miniset]:
        h, x = zip(*slides, strict=True)
        n_sets = n_sets or plan.n_minisets
        return sample_minisets(h, x, n_sets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed)

    def train(
        sets: Sequence[Miniset], held_out: Sequence[Miniset], n_epochs: int | None
    ) -> tuple[IPALiteNet, EdgeGate, Trained]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            net, gate = IPALiteNet(shape).to(device), EdgeGate(shape.d_input, shape.gate_heads).to(device)
        trainer = IPALiteTrainer(net, gate, training, random_state=random_state)
        return net, gate, trainer.fit(sets, held_out, n_epochs=n_epochs, progress=progress)

    slides = [(torch.from_numpy(h), torch.from_numpy(x)) for h, x in zip(embeddings, coords, strict=True)]
    fit = train_left_out(slides, draw, train, n_validation=_N_VALIDATION, refit=refit, random_state=random_state)
    energies = sweep_beta(*fit.unseen, fit.held_out, BETAS)
    unseen_beta = choose_beta(energies, shape.beta)
    return IPALiteFit(
        net=fit.net,
        gate=fit.gate,
        unseen=fit.unseen,
        beta=shape.beta if fit.retrained else unseen_beta,
        unseen_beta=unseen_beta,
        betas=pd.DataFrame({"beta": BETAS, "e_geo": energies}),
        history=fit.run.history,
        best_epoch=fit.run.best_epoch,
        validation_slide=fit.slide,
        retrained=fit.retrained,
    )


def choose_beta(energies: Sequence[float], trained: float) -> float:
    """The β of the lowest energy, or the trained one where that is not lower by a twentieth.

    Parameters
    ----------
    energies
        E_geo on the left-out slide at every β of ``BETAS``.
    trained
        β of the training; where it is none of ``BETAS``, the best is taken.
    """
    best = int(np.argmin(energies))
    if trained in BETAS and energies[best] > (1 - _BETA_GAIN) * energies[BETAS.index(trained)]:
        return trained
    return BETAS[best]
