"""Training of the set encoder, which sees a slide as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._descent import Descent
from ipar._options import Checked, Count, Positive, Sizes
from ipar._run import Run, sent
from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import GeometryEncoder
from ipar.model.blend import global_map
from ipar.nn import SetEncoder
from ipar.nn.draws import normal_like


@dataclass(frozen=True)
class SetEncoderTraining(Checked):
    """How a :class:`~ipar.nn.SetEncoder` is trained.

    Attributes
    ----------
    n_steps, batch_size
        Optimiser steps, and sets of each.
    few_cells, most_times
        Training cells for which `n_steps` is right. More cells take proportionally more steps, at most `most_times` as
        many: few cells are overfitted by more steps, many are not yet learned.
    size
        Smallest and largest set.
    noise
        Standard deviation of Gaussian noise on the (standardised) input.
    lr, weight_decay, clip
        Of AdamW under a one-cycle schedule; largest norm of the gradient.
    """

    n_steps: Count = 250
    batch_size: Count = 4
    few_cells: int = 2500
    most_times: float = 3.0
    size: Sizes = (96, 384)
    noise: float = 0.3
    lr: Positive = 1e-3
    weight_decay: float = 1e-2
    clip: Positive = 1.0

    def steps_for(self, n_cells: int) -> int:
        """Steps for so many cells in all."""
        return round(self.n_steps * min(max(n_cells / self.few_cells, 1.0), self.most_times))


def embedding_distances(h: Tensor) -> Tensor:
    """Distances within sets ``(B, n, d)``, ``(B, n, n)``, by one matrix product."""
    square = h.square().sum(-1)
    return (
        (square[:, :, None] + square[:, None] - 2 * h @ h.mT).clamp_min(1e-6).sqrt()
    )  # a root of zero has no gradient


def fit_set_encoder(
    features: Sequence[Tensor], coords: Sequence[Tensor], recipe: SetEncoderTraining, run: Run
) -> SetEncoder:
    """Train a set encoder so that embedding distances are tissue distances.

    Parameters
    ----------
    features, coords
        Input ``(n_s, n_input)`` and gauge-fixed coordinates ``(n_s, 2)`` of every training slide.
    """
    n_steps, rng = recipe.steps_for(sum(map(len, features))), run.rng
    low = run.fast_dtype == torch.bfloat16
    with run.seeded():
        network = SetEncoder(features[0].shape[1]).to(run.device).train()
        descent = Descent(
            network.parameters(),
            lr=recipe.lr,
            n_steps=n_steps,
            schedule="one-cycle",
            weight_decay=recipe.weight_decay,
            clip=recipe.clip,
            ranks=run.ranks,
        )

        def loss(_: int) -> Tensor:
            part = run.ranks.part(recipe.batch_size)
            x, position = (sent(whole[part.rows], run.device) for whole in _draw(features, coords, recipe, rng))
            with part.drawing(), torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=low):
                h = network(x + recipe.noise * normal_like(x))
            return part.weight * _stress(h.float(), position)

        descent.minimise(loss)
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

    Takes an encoder that was trained without the slide, what it says of some cells, ``(n, d)``, and their true coordinates,
    ``(n, 2)``. Returns a table ``weight, luna_spearman, e_geo``.
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

    Takes a table of :func:`score_weights` per held-out slide (without any, the weight is 1). Returns the weight and the mean
    table.
    """
    if not scores:
        return 1.0, pd.DataFrame(columns=["weight", "luna_spearman", "e_geo"], dtype=float)
    mean = pd.concat(scores).groupby("weight", as_index=False).mean()
    cheap = mean[mean["e_geo"] <= (1 + energy_cost) * mean["e_geo"].min()]
    return float(cheap.loc[cheap["luna_spearman"].idxmax(), "weight"]), mean
