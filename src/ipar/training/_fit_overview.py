"""Training of the set encoders, which see a slide as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ipar._steps import steps_for
from ipar.geometry import gauge_fix
from ipar.nn import SetEncoder

_SKETCH_LAYERS = 4  # two draw worse
_SQUARE_MIN = 1e-6  # keeps the gradient of the root finite for coincident cells


@dataclass(frozen=True)
class OverviewTraining:
    """How a :class:`~ipar.nn.SetEncoder` is trained.

    Attributes
    ----------
    n_steps, batch_size
        Optimiser steps, and sets of each. The steps are for 2,500 cells or fewer; more cells allow proportionally more, at
        most three times as many: few cells are overfitted by more steps, many are not yet learned.
    size
        Smallest and largest set.
    noise
        Standard deviation of Gaussian noise on the (standardised) input.
    lr, weight_decay
        Of AdamW under a one-cycle schedule.
    """

    n_steps: int = 500
    batch_size: int = 4
    size: tuple[int, int] = (96, 384)
    noise: float = 0.3
    lr: float = 5e-4
    weight_decay: float = 1e-2

    def steps_for(self, n_cells: int) -> int:
        """Steps for so many cells in all."""
        return steps_for(self.n_steps, n_cells)


def embedding_distances(h: Tensor) -> Tensor:
    """Distances within sets ``(B, n, d)``, ``(B, n, n)``, by one matrix product."""
    square = h.square().sum(-1)
    return (square[:, :, None] + square[:, None] - 2 * h @ h.mT).clamp_min(_SQUARE_MIN).sqrt()


def fit_overview(
    features: Sequence[Tensor],
    coords: Sequence[Tensor],
    config: OverviewTraining,
    *,
    random_state: int,
    device: torch.device | None = None,
) -> SetEncoder:
    """Train a set encoder so that embedding distances are tissue distances.

    Parameters
    ----------
    features
        Input of every training slide, ``(n_s, n_input)``.
    coords
        Gauge-fixed coordinates, ``(n_s, 2)``.
    config
        The recipe.
    random_state
        Seed; the global random state is left as it was.
    device
        Where to train; the CPU, if None.
    """
    build = partial(SetEncoder, features[0].shape[1])
    n_steps = config.steps_for(sum(map(len, features)))
    return _fit(build, _stress, features, coords, replace(config, n_steps=n_steps), random_state, device)


def fit_sketch(
    features: Sequence[Tensor],
    coords: Sequence[Tensor],
    config: OverviewTraining,
    *,
    random_state: int,
    device: torch.device | None = None,
) -> SetEncoder:
    """Train a set encoder to draw the tissue: its two outputs are coordinates.

    Each set is compared with its true one at the same size, so that how far a set reaches across the tissue, which its
    cells' expression need not tell, costs nothing. Drawn in two dimensions it errs otherwise than an embedding of more: beside
    it, finished layouts of left-out sections are a little better in every score, where five sections teach
    (``docs/levers.md``).

    Parameters
    ----------
    features, coords, config, random_state, device
        As in :func:`fit_overview`, but for more cells there are no more steps: they bring nothing here.
    """
    build = partial(SetEncoder, features[0].shape[1], n_layers=_SKETCH_LAYERS, n_output=2)
    return _fit(build, _shape_stress, features, coords, config, random_state, device)


def _fit(
    build: Callable[[], SetEncoder],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    features: Sequence[Tensor],
    coords: Sequence[Tensor],
    config: OverviewTraining,
    random_state: int,
    device: torch.device | None,
) -> SetEncoder:
    rng = np.random.default_rng(random_state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        network = build().to(device).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=config.n_steps, pct_start=0.1)
        for _ in range(config.n_steps):
            x, position = (part.to(device) for part in _draw(features, coords, config, rng))
            loss = loss_of(network(x + config.noise * torch.randn_like(x)), position)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def _stress(h: Tensor, position: Tensor) -> Tensor:
    """Mean squared difference of embedding distances and true ones, over pairs of sets ``(B, n, d)`` and ``(B, n, 2)``."""
    gap = (embedding_distances(h) - torch.cdist(position, position)).square()
    apart = 1 - torch.eye(h.shape[1], device=h.device)  # a product is far faster than picking the pairs
    return (gap * apart).sum() / (apart.sum() * len(h))


def _shape_stress(h: Tensor, position: Tensor) -> Tensor:
    """The same of both sides brought to an RMS radius of 1."""
    centred = h - h.mean(dim=1, keepdim=True)
    # the square is floored before the root, whose gradient at zero is infinite
    radius = centred.square().sum(-1).mean(1).clamp_min(_SQUARE_MIN).sqrt()[:, None, None]
    return _stress(centred / radius, gauge_fix(position))


def _draw(
    features: Sequence[Tensor], coords: Sequence[Tensor], config: OverviewTraining, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Sets of one size from slides at random, ``(B, n, n_input)`` and ``(B, n, 2)``."""
    smallest = min(len(x) for x in features)
    n = min(int(rng.integers(config.size[0], config.size[1] + 1)), smallest)
    chosen = rng.integers(len(features), size=config.batch_size)
    picks = [torch.from_numpy(rng.choice(len(features[i]), n, replace=False)) for i in chosen]
    x, position = (
        torch.stack([part[i][pick] for i, pick in zip(chosen, picks, strict=True)]) for part in (features, coords)
    )
    return x, position
