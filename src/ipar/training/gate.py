"""Augmentation, the optimiser's step, and pretraining of the gate: what every training run shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ipar._descent import fast_dtype
from ipar.nn import EdgeGate, dense_gate
from ipar.nn.config import GateSupervision
from ipar.training.losses import gate_loss, gate_reference
from ipar.training.minisets import Miniset, MinisetBatch, collate


class GateRecipe(Protocol):
    """What training of the gate and augmentation read of a recipe."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def gate_steps(self) -> int: ...
    @property
    def h_noise(self) -> float: ...
    @property
    def h_dropout(self) -> float: ...
    @property
    def edge_drop(self) -> float: ...


def augment(batch: MinisetBatch, config: GateRecipe) -> MinisetBatch:
    """Noise and dropout on the embeddings, dropout of candidate edges."""
    h = batch.h + config.h_noise * torch.randn_like(batch.h)
    h = torch.nn.functional.dropout(h, config.h_dropout)
    kept = torch.rand(batch.candidates.shape, device=h.device) >= config.edge_drop
    return replace(batch, h=h, candidates=batch.candidates & kept)


def step(loss: Tensor, optimiser: torch.optim.Optimizer, clip: float) -> None:
    """One step of an optimiser with the norm of the gradient limited."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()


def pretrain_gate(
    gate: EdgeGate,
    train: Sequence[Miniset],
    config: GateRecipe,
    rng: np.random.Generator,
    supervision: GateSupervision = "T1",
) -> None:
    """Train a gate alone on its KL, one random miniset a step."""
    device = next(gate.parameters()).device
    dtype = fast_dtype(device)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    for index in rng.integers(len(train), size=config.gate_steps):
        batch = augment(collate([train[index]], device), config)
        scores = dense_gate(gate, batch.h, batch.candidates, dtype)
        target = gate_reference(batch.log_reference, supervision)
        step(gate_loss(scores, batch.candidates, target), optimiser, config.clip)
