"""Training of the expression encoder, supervised by the geometry of the training slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ipar._descent import fast_dtype
from ipar.geometry.targets import squared_distances
from ipar.nn import SharedEncoder


@dataclass(frozen=True)
class EncoderTraining:
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
    noise
        Standard deviation of Gaussian noise on the (standardised) input.
    """

    n_steps: int = 600
    batch_size: int = 512
    sigma: float = 0.1
    local_weight: float = 1.0
    global_weight: float = 1.0
    scale: float = 7.0
    lr: float = 1e-3
    weight_decay: float = 1e-3
    noise: float = 0.0


def local_loss(h: Tensor, distance2: Tensor, sigma: float) -> Tensor:
    r"""KL of embedding neighbourhoods against spatial ones, in nats.

    .. math:: \mathrm{mean}_i \mathrm{KL}\big(\mathrm{softmax}_j(-d_{ij}^2 / 2\sigma^2) \,\Vert\,
              \mathrm{softmax}_j(-\lVert h_i - h_j \rVert^2)\big), \quad j \ne i

    Parameters
    ----------
    h
        Embeddings, ``(n, d)``.
    distance2
        True squared distances in squared RMS radii, ``(n, n)``.
    sigma
        Width of the spatial kernel, in RMS radii.
    """
    diagonal = torch.eye(len(h), dtype=torch.bool, device=h.device)
    target = (-distance2 / (2 * sigma**2)).masked_fill(diagonal, -1e9).log_softmax(1)
    predicted = (-torch.cdist(h, h).square()).masked_fill(diagonal, -1e9).log_softmax(1)
    return functional.kl_div(predicted, target, log_target=True, reduction="batchmean")


def global_loss(h: Tensor, distance: Tensor, scale: float) -> Tensor:
    """Mean squared difference of embedding distances (in units of ``scale``) and true ones, over pairs."""
    gap = torch.pdist(h) / scale - distance
    return gap.square().mean()


def train_encoder(
    encoder: SharedEncoder,
    features: Sequence[Tensor],
    coords: Sequence[Tensor],
    config: EncoderTraining,
    *,
    random_state: int,
    callback: Callable[[int, float, float], None] | None = None,
) -> None:
    """Train an encoder in place; its first half of outputs takes the local term, its second the global one.

    A term of weight zero gives its half to the other.

    Parameters
    ----------
    encoder
        What is trained.
    features
        Input of every training slide, ``(n_s, n_input)``.
    coords
        Gauge-fixed coordinates of every training slide, ``(n_s, 2)``.
    config
        The recipe.
    random_state
        Seed; the global random state is left as it was.
    callback
        Called after every step with the step and both losses.
    """
    device = next(encoder.parameters()).device
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.n_steps, eta_min=config.lr / 50)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random_state)
        encoder.train()
        for step in range(config.n_steps):
            slide = step % len(features)
            pick = torch.randperm(len(features[slide]))[: config.batch_size].to(features[slide].device)
            x, position = features[slide][pick].to(device), coords[slide][pick].to(device)
            if config.noise:
                x = x + config.noise * torch.randn_like(x)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16):
                h = encoder(x)
            h = h.float()
            losses = _terms(h, position, config)
            loss = config.local_weight * losses[0] + config.global_weight * losses[1]
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if callback is not None:
                callback(step, losses[0].item(), losses[1].item())
        encoder.eval()


def _terms(h: Tensor, position: Tensor, config: EncoderTraining) -> tuple[Tensor, Tensor]:
    half = h.shape[1] // 2
    local_part = h[:, :half] if config.global_weight else h
    global_part = h[:, half:] if config.local_weight else h
    zero = h.new_zeros(())
    near = local_loss(local_part, squared_distances(position), config.sigma) if config.local_weight else zero
    far = global_loss(global_part, torch.pdist(position), config.scale) if config.global_weight else zero
    return near, far
