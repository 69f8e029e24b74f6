"""The training loop of IGA."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from ipar.nn import AttentionSignals, EdgeGate, IGANet, dense_gate, noise_poses
from ipar.training._flow import FlowWeights, corrupt, flow_losses
from ipar.training._loop import Trained, _Best, augment, pretrain_gate, step
from ipar.training._losses import gate_loss
from ipar.training._minisets import batch_order
from ipar.training._pose_sets import PoseBatch, PoseSet, collate_poses
from ipar.training._precision import fast_dtype, release_memory

logger = logging.getLogger("ipar")

POSE_TERMS = ("translation", "rotation", "auxiliary")
ELLIPSOID_TERMS = ("local_mean", "scaling")
SIGNALS = ("geo_scaled_absmax", "wmax_sat_frac", "log_det_min")
FLOW_HISTORY = [
    *("epoch", "lr", "clean_weight", "total", *POSE_TERMS, *ELLIPSOID_TERMS, "gate", *SIGNALS),
    *(f"val_{name}" for name in (*POSE_TERMS, *ELLIPSOID_TERMS)),
    *("val_pose", "val_pose_clean"),
]
_VALIDATION_TIMES = (0.1, 0.4, 0.7, 0.9)
_TRIM_EVERY = 4
_WORSE = {"geo_scaled_absmax": max, "wmax_sat_frac": max, "log_det_min": min}


@dataclass(frozen=True)
class FlowTraining:
    """How an :class:`~ipar.nn.IGANet` is trained.

    Attributes
    ----------
    max_epochs
        Passes over the sets.
    batch_size
        Sets a step: each has one time and one noise. Twice as many steps of half the sets learn more in the same time.
    lr, lr_min, weight_decay, clip
        AdamW, its cosine end, and the gradient norm that is allowed.
    average
        Decay of the moving average of the weights, which is what is kept: losses at random times are noisy. It starts
        lower, so that first, random weights are forgotten.
    curriculum_share
        Share of the training after which ``attention_geometry="curriculum"`` reads the denoised Gaussians alone; until
        then the share of the true ones falls in a straight line.
    gate_steps
        Steps of pretraining of the gate alone.
    h_noise, h_dropout, edge_drop
        Augmentation, as for IPA-Lite.
    weights
        Weights of the losses.
    """

    max_epochs: int = 30
    batch_size: int = 2
    lr: float = 2e-3
    lr_min: float = 2e-5
    weight_decay: float = 1e-3
    clip: float = 1.0
    average: float = 0.98
    curriculum_share: float = 0.6
    gate_steps: int = 300
    h_noise: float = 0.3
    h_dropout: float = 0.1
    edge_drop: float = 0.2
    weights: FlowWeights = field(default_factory=FlowWeights)


class FlowTrainer:
    """Trains a denoising network and its gate on pose sets.

    Parameters
    ----------
    net, gate
        What is trained, in place.
    config
        The recipe.
    random_state
        Seed; the global random state is left as it was.
    """

    def __init__(self, net: IGANet, gate: EdgeGate, config: FlowTraining, *, random_state: int = 0) -> None:
        self.net, self.gate, self.config, self.random_state = net, gate, config, random_state
        self.device = next(net.parameters()).device
        self.dtype = fast_dtype(self.device)
        self.generator = torch.Generator().manual_seed(random_state)

    def clean_weight(self, epoch: int, n_epochs: int) -> float:
        """Share of the true Gaussians in what attention reads in an epoch."""
        mode = self.net.config.attention_geometry
        if mode != "curriculum":
            return float(mode == "clean")
        return max(0.0, 1 - epoch / max(self.config.curriculum_share * n_epochs, 1e-9))

    def fit(
        self,
        train: Sequence[PoseSet],
        validation: Sequence[PoseSet] = (),
        *,
        n_epochs: int | None = None,
        progress: bool = False,
    ) -> Trained:
        """Pretrain the gate, then train both.

        Parameters
        ----------
        train
            Sets to learn from.
        validation
            Sets of a left-out slide: the epoch with the lowest pose losses on them is kept, among those in which attention
            reads what it reads at the end. Without any, the last epoch is.
        n_epochs
            Length of the schedule; that of the recipe, if None.
        progress
            Show a bar with the losses.
        """
        config, rng = self.config, np.random.default_rng(self.random_state)
        n_epochs = n_epochs or config.max_epochs
        sizes = [len(one) for one in train]
        n_batches = -(-len(sizes) // config.batch_size)
        parameters = [*self.net.parameters(), *self.gate.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_epochs * n_batches, eta_min=config.lr_min)
        average = AveragedModel(self.net, multi_avg_fn=moving_average(config.average))
        kept = cast(IGANet, average.module)
        best, rows, interrupted = _Best([kept, self.gate]), [], False
        devices = [self.device] if self.device.type == "cuda" else []
        bar = tqdm(total=n_epochs * n_batches, desc="fit", disable=not progress)
        with torch.random.fork_rng(devices=devices), bar:
            torch.manual_seed(self.random_state)
            try:
                pretrain_gate(self.gate, [one.miniset for one in train], config, rng)
                for epoch in range(n_epochs):
                    weight = self.clean_weight(epoch, n_epochs)
                    row: dict[str, Any] = {"epoch": epoch, "lr": schedule.get_last_lr()[0], "clean_weight": weight}
                    batches = batch_order(sizes, config.batch_size, rng)
                    row |= self._epoch(train, batches, weight, optimiser, schedule, average, bar)
                    scores = validate_flow(kept, self.gate, validation) if validation else {}
                    rows.append(row | scores)
                    final = weight == self.clean_weight(n_epochs - 1, n_epochs)
                    best.offer(epoch, scores.get("val_pose", math.nan), counts=final)
            except KeyboardInterrupt:
                logger.warning("Training interrupted after %d epochs: the best weights so far are kept.", len(rows))
                interrupted = True
        best.restore()
        self.net.load_state_dict(kept.state_dict())
        self.net.eval()
        self.gate.eval()
        return Trained(pd.DataFrame(rows, columns=FLOW_HISTORY), best.epoch, interrupted)

    def _epoch(
        self,
        train: Sequence[PoseSet],
        batches: Sequence[Sequence[int]],
        clean_weight: float,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        average: AveragedModel,
        bar: tqdm[Any],
    ) -> dict[str, float]:
        totals: dict[str, float] = {}
        for number, indices in enumerate(batches):
            if number % _TRIM_EVERY == 0:
                release_memory()
            terms = self._step([train[i] for i in indices], clean_weight, optimiser)
            average.update_parameters(self.net)
            schedule.step()
            _add(totals, terms, len(batches))
            bar.update()
            bar.set_postfix(translation=f"{terms['translation']:.3f}", refresh=False)
        return totals

    def _step(self, sets: Sequence[PoseSet], clean_weight: float, optimiser: torch.optim.Optimizer) -> dict[str, float]:
        self.net.train()
        self.gate.train()
        batch = collate_poses(sets, self.device)
        minisets = augment(batch.minisets, self.config)
        scores = dense_gate(self.gate, minisets.h, minisets.candidates, self.dtype)
        time = torch.rand(len(sets), generator=self.generator).to(self.device)
        terms, signals = flow_terms(
            self.net, PoseBatch(minisets, batch.rigid), scores, time, self.generator, clean_weight, self.config.weights
        )
        terms["gate"] = gate_loss(scores, minisets.candidates, minisets.log_reference)
        terms["total"] = terms["total"] + self.config.weights.gate * terms["gate"]
        step(terms["total"], optimiser, self.config.clip)
        found = {name: value.item() for name, value in terms.items()}
        return found | {name: getattr(signals, name).item() for name in SIGNALS}


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Moving average of weights for :class:`torch.optim.swa_utils.AveragedModel`, of fewer steps while there are few.

    With a constant decay the first, random weights would weigh in for as long as the average is.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, new in zip(averaged, current, strict=True):
            mean.lerp_(new, 1 - kept)

    return update


def flow_terms(
    net: IGANet,
    batch: PoseBatch,
    scores: Tensor,
    time: Tensor,
    generator: torch.Generator,
    clean_weight: float,
    weights: FlowWeights,
) -> tuple[dict[str, Tensor], AttentionSignals]:
    """Losses by name, their weighted total among them, and attention's signals, of one batch at given times."""
    config, mask = net.config, batch.minisets.mask
    noise = noise_poses((mask.shape[0], mask.shape[1]), config, generator, mask.cpu()).map(lambda x: x.to(time.device))
    state, target = corrupt(batch.rigid, noise, time, config)
    out = net(
        batch.minisets.h,
        batch.minisets.candidates,
        state,
        time,
        scores,
        mask=mask,
        clean=target if clean_weight else None,
        clean_weight=torch.full_like(time, clean_weight),
    )
    losses = flow_losses(out, state, target, time, mask, config)
    return losses.as_dict() | {"total": losses.total(weights)}, out.signals


@torch.no_grad()
def validate_flow(net: IGANet, gate: EdgeGate, sets: Sequence[PoseSet], *, random_state: int = 0) -> dict[str, float]:
    """Losses on held-out sets at four times, with the same noise at every call.

    Returns
    -------
    dict
        ``val_…`` of every term with attention on the denoised Gaussians, as at inference; ``val_pose``, the sum of
        translation, rotation and auxiliary; and ``val_pose_clean``, the same sum with attention on the true ones.
    """
    net.eval()
    device = next(net.parameters()).device
    found: dict[str, float] = {}
    for one in sets:
        batch = collate_poses([one] * len(_VALIDATION_TIMES), device)
        time = torch.tensor(_VALIDATION_TIMES, device=device)
        scores = dense_gate(gate, batch.minisets.h, batch.minisets.candidates)
        for clean in (0.0, 1.0):
            generator = torch.Generator().manual_seed(random_state)
            terms, _ = flow_terms(net, batch, scores, time, generator, clean, FlowWeights())
            pose = sum(terms[name].item() for name in POSE_TERMS)
            values = {"val_pose_clean": pose} if clean else {"val_pose": pose}
            if not clean:
                values |= {f"val_{name}": terms[name].item() for name in (*POSE_TERMS, *ELLIPSOID_TERMS)}
            _add(found, values, len(sets))
    return found


def _add(totals: dict[str, float], values: dict[str, float], count: int) -> None:
    """Means of losses, extremes of signals."""
    for name, value in values.items():
        if name in _WORSE:
            totals[name] = _WORSE[name](totals.get(name, value), value)
        else:
            totals[name] = totals.get(name, 0.0) + value / count
