"""Training of the set encoder, which sees a slide as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._run import Run
from ipar._steps import steps_for
from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import GeometryEncoder
from ipar.model.blend import global_map
from ipar.nn import SetEncoder

_SQUARE_MIN = 1e-6  # keeps the gradient of the root finite for coincident cells


@dataclass(frozen=True)
class SetEncoderTraining:
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


def fit_set_encoder(
    features: Sequence[Tensor], coords: Sequence[Tensor], recipe: SetEncoderTraining, run: Run
) -> SetEncoder:
    """Train a set encoder so that embedding distances are tissue distances.

    Parameters
    ----------
    features
        Input of every training slide, ``(n_s, n_input)``.
    coords
        Gauge-fixed coordinates, ``(n_s, 2)``.
    recipe, run
        How, and with which seed and device; the global random state is left as it was.
    """
    n_steps, rng = recipe.steps_for(sum(map(len, features))), run.rng
    with run.seeded():
        network = SetEncoder(features[0].shape[1]).to(run.device).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=n_steps, pct_start=0.1)
        for _ in range(n_steps):
            x, position = (part.to(run.device) for part in _draw(features, coords, recipe, rng))
            loss = _stress(network(x + recipe.noise * torch.randn_like(x)), position)
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


def _draw(
    features: Sequence[Tensor], coords: Sequence[Tensor], config: SetEncoderTraining, rng: np.random.Generator
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


def score_weights(
    encoder: GeometryEncoder,
    global_features: NDArray[np.float32],
    coords: NDArray[np.float32],
    weights: Sequence[float],
    run: Run,
    n_minisets: int = 20,
) -> pd.DataFrame:
    """Scores of the global map of a held-out slide at every weight of the set encoder.

    Parameters
    ----------
    encoder
        Trained without the slide, with a set encoder of weight 1.
    global_features, coords
        What it says of some cells of the slide, ``(n, d)``, and their true coordinates, ``(n, 2)``.
    weights
        Weights to try.
    run
        Seed of the minisets.
    n_minisets
        Minisets that E_geo is the mean of.

    Returns
    -------
    DataFrame
        ``weight, luna_spearman, e_geo``, one row per weight.
    """
    layouts = [global_map(weighted(encoder, global_features, weight)).numpy() for weight in weights]
    energies = [e_geo_minisets(coords, x, n_minisets=n_minisets, random_state=run.seed).total for x in layouts]
    ranks = [luna_spearman(coords, x) for x in layouts]
    return pd.DataFrame({"weight": weights, "luna_spearman": ranks, "e_geo": energies})


def weighted(encoder: GeometryEncoder, global_features: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Global features, those of the set encoder, the last, times a weight."""
    if encoder.set_encoder is None:
        msg = "The encoder has no set encoder: fit it with set_encoder=True."
        raise ValueError(msg)
    scaled = global_features.copy()
    scaled[:, -encoder.set_encoder.n_output :] *= weight
    return scaled


def choose_weight(scores: Sequence[pd.DataFrame], energy_cost: float) -> tuple[float, pd.DataFrame]:
    """The weight of the best ranks of distances among those that cost no more than a share of the least E_geo.

    Parameters
    ----------
    scores
        Of :func:`score_weights`, one table per held-out slide; without any, the weight is 1.
    energy_cost
        Share of E_geo that better ranks may cost.

    Returns
    -------
    tuple
        The weight, and the mean table.
    """
    if not scores:
        return 1.0, pd.DataFrame(columns=["weight", "luna_spearman", "e_geo"], dtype=float)
    mean = pd.concat(scores).groupby("weight", as_index=False).mean()
    cheap = mean[mean["e_geo"] <= (1 + energy_cost) * mean["e_geo"].min()]
    return float(cheap.loc[cheap["luna_spearman"].idxmax(), "weight"]), mean
