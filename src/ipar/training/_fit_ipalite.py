"""Fitting gate and layout network on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.training._loop import IPALiteTrainer, IPALiteTraining, Trained, sweep_beta
from ipar.training._minisets import Miniset, sample_minisets

BETAS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
_N_VALIDATION = 12
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
        The gate's weight that laid out the validation slide best, or the trained one where that is as good as it.
    betas
        E_geo of the validation slide at every β tried.
    history
        Of the run with a slide left out, on which epochs and β were chosen.
    best_epoch
        Epoch with the lowest validation energy.
    validation_slide
        Index of the slide left out.
    """

    net: IPALiteNet
    gate: EdgeGate
    unseen: tuple[IPALiteNet, EdgeGate]
    beta: float
    betas: pd.DataFrame
    history: pd.DataFrame
    best_epoch: int
    validation_slide: int


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
    config = replace(config or IPALiteConfig.v1(), d_input=embeddings[0].shape[1])
    h = [torch.from_numpy(x) for x in embeddings]
    x = [torch.from_numpy(c) for c in coords]
    left = int(np.random.default_rng(random_state).integers(len(h)))
    others = [i for i in range(len(h)) if i != left]
    held_out = _draw([h[left]], [x[left]], replace(plan, n_minisets=_N_VALIDATION), random_state + 1)
    sets = _draw([h[i] for i in others], [x[i] for i in others], plan, random_state)
    net, gate, run = _run(sets, held_out, config, training, None, random_state, device, progress)
    if run.best_epoch < 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    energies, unseen = sweep_beta(net, gate, held_out, BETAS), (net, gate)
    if refit and not run.interrupted:
        sets = _draw(h, x, plan, random_state)
        again = _run(sets, (), config, training, run.best_epoch + 1, random_state, device, progress)
        if not again[2].interrupted:  # half a run is worse than a whole one without the left-out slide
            net, gate = again[:2]
    return IPALiteFit(
        net=net,
        gate=gate,
        unseen=unseen,
        beta=choose_beta(energies, config.beta),
        betas=pd.DataFrame({"beta": BETAS, "e_geo": energies}),
        history=run.history,
        best_epoch=run.best_epoch,
        validation_slide=left,
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


def _draw(h: Sequence[torch.Tensor], x: Sequence[torch.Tensor], plan: MinisetPlan, random_state: int) -> list[Miniset]:
    return sample_minisets(
        h, x, plan.n_minisets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=random_state
    )


def _run(
    train: Sequence[Miniset],
    validation: Sequence[Miniset],
    config: IPALiteConfig,
    training: IPALiteTraining,
    n_epochs: int | None,
    random_state: int,
    device: torch.device | None,
    progress: bool,
) -> tuple[IPALiteNet, EdgeGate, Trained]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        net, gate = IPALiteNet(config).to(device), EdgeGate(config.d_input, config.gate_heads).to(device)
    trainer = IPALiteTrainer(net, gate, training, random_state=random_state)
    return net, gate, trainer.fit(train, validation, n_epochs=n_epochs, progress=progress)
