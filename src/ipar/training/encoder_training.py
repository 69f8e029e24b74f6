"""Training of the expression encoder, supervised by the geometry of the training slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ipar._descent import Descent, fast_dtype
from ipar._options import Checked, Count, Positive
from ipar._run import Run
from ipar.geometry.targets import pair_distances, squared_distances
from ipar.nn import SharedEncoder


@dataclass(frozen=True)
class EncoderTraining(Checked):
    """How a :class:`~ipar.nn.SharedEncoder` is trained.

    Attributes
    ----------
    n_steps
        Optimiser steps; every step sees one random subset of one slide.
    batch_size
        Cells of a step: distances grow with its square.
    sigma
        Width of the spatial kernel of the local term, in RMS radii of the slide.
    local_weight, global_weight
        Weights of the two terms.
    scale
        Embedding distance that stands for one RMS radius in the global term.
    lr, weight_decay
        Of AdamW; the learning rate falls along a cosine to a fiftieth.
    clip
        Largest norm of the gradient.
    noise
        Standard deviation of Gaussian noise on the (standardised) input.
    """

    n_steps: Count = 600
    batch_size: Count = 512
    sigma: float = 0.1
    local_weight: float = 1.0
    global_weight: float = 1.0
    scale: float = 7.0
    lr: Positive = 1e-3
    weight_decay: float = 1e-3
    clip: Positive = 1.0
    noise: float = 0.0


class CellInputs(Protocol):
    """Input of a network for the cells of a slide, ``(n, n_input)``: a tensor, or rows that are made when they are read."""

    @property
    def shape(self) -> Sequence[int]:
        """Cells and inputs."""

    def __getitem__(self, cells: Tensor, /) -> Tensor:
        """Input of some cells."""


def local_loss(h: Tensor, distance2: Tensor, sigma: float) -> Tensor:
    r"""KL divergence of embedding neighbourhoods from spatial ones, in nats.

    .. math:: \mathrm{mean}_i \mathrm{KL}\big(\mathrm{softmax}_j(-d_{ij}^2 / 2\sigma^2) \,\Vert\,
              \mathrm{softmax}_j(-\lVert h_i - h_j \rVert^2)\big), \quad j \ne i

    of embeddings ``(n, d)`` and true squared distances ``(n, n)``; distances and σ are in RMS radii.
    """
    diagonal = torch.eye(len(h), dtype=torch.bool, device=h.device)
    target = (-distance2 / (2 * sigma**2)).masked_fill(diagonal, -1e9).log_softmax(1)
    # the squared norm of h_i is the same along a row: the softmax does without it
    logits = (2 * h @ h.T - h.square().sum(1)).masked_fill(diagonal, -1e9)
    share = target.exp()
    return (logits.logsumexp(1) + (share * (target - logits)).sum(1)).mean()


def global_loss(h: Tensor, distance: Tensor, scale: float) -> Tensor:
    """Mean squared difference of embedding distances (in units of ``scale``) and true ones, over pairs."""
    gap = pair_distances(h) / scale - distance
    return gap.square().mean()


def train_encoder(
    encoder: SharedEncoder,
    features: Sequence[CellInputs],
    coords: Sequence[Tensor],
    config: EncoderTraining,
    run: Run,
) -> None:
    """Train an encoder in place; its first half of outputs takes the local term, its second the global one.

    A term of weight zero gives its half to the other.

    Parameters
    ----------
    features, coords
        Input ``(n_s, n_input)`` and gauge-fixed coordinates ``(n_s, 2)`` of every training slide.
    """
    device = next(encoder.parameters()).device
    low = fast_dtype(device) == torch.bfloat16

    def loss(step: int) -> Tensor:
        slide = step % len(features)
        pick = torch.randperm(features[slide].shape[0])[: config.batch_size]
        x, position = features[slide][pick].to(device), coords[slide][pick].to(device)
        if config.noise:
            x = x + config.noise * torch.randn_like(x)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            h = encoder(x)
        near, across = _terms(h.float(), position, config)
        return config.local_weight * near + config.global_weight * across

    with run.seeded():
        encoder.train()
        Descent(
            encoder.parameters(),
            lr=config.lr,
            n_steps=config.n_steps,
            lr_end=config.lr / 50,
            weight_decay=config.weight_decay,
            clip=config.clip,
        ).minimise(loss)
        encoder.eval()


def _terms(h: Tensor, position: Tensor, config: EncoderTraining) -> tuple[Tensor, Tensor]:
    half = h.shape[1] // 2
    local_part = h[:, :half] if config.global_weight else h
    global_part = h[:, half:] if config.local_weight else h
    zero = h.new_zeros(())
    near = local_loss(local_part, squared_distances(position), config.sigma) if config.local_weight else zero
    across = global_loss(global_part, pair_distances(position), config.scale) if config.global_weight else zero
    return near, across
