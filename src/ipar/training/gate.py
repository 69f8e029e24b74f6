"""Augmentation, and training of the gate alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipar._descent import Descent, fast_dtype
from ipar._options import Checked, Natural, Positive, Share, Weight
from ipar._ranks import Part, Ranks
from ipar._run import Run, sent
from ipar.nn.config import GateSupervision
from ipar.nn.gate import EdgeGate, dense_gate
from ipar.nn.graph import CandidateGraph, graph_of_mask
from ipar.training.losses import taught_gate_loss
from ipar.training.minisets import Miniset, MinisetBatch, collate


@dataclass(frozen=True)
class GateTraining(Checked):
    """Optimiser and augmentation, which the gate shares with its network.

    Attributes
    ----------
    lr, weight_decay
        Learning rate and weight decay of AdamW.
    clip
        Largest norm of the gradient.
    gate_steps
        Steps that the gate is trained alone.
    gate_share
        Share of the cells whose candidate edges such a step reads.
    gate_mix
        Weight λ of the second step's divergence where ``gate_supervision="mix"``: KL₁ + λ·KL₂.
    embedding_noise
        Standard deviation of Gaussian noise on the embedding.
    embedding_dropout
        Share of the entries of the embedding that are dropped.
    edge_drop
        Share of candidate edges that are dropped. Network and gate see the same augmented embedding.
    """

    lr: Positive = 5e-4
    weight_decay: float = 5e-4
    clip: Positive = 1.0
    gate_steps: Natural = 500
    gate_share: Share = 0.25
    gate_mix: Weight = 0.5
    embedding_noise: float = 0.3
    embedding_dropout: Share = 0.1
    edge_drop: Share = 0.2

    def descent(self, parameters: Iterable[Tensor], run: Run, **schedule: Any) -> Descent:
        """The optimiser with a schedule."""
        how: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "clip": self.clip}
        return Descent(parameters, ranks=run.ranks, **how, **schedule)


@dataclass(frozen=True)
class Ready:
    """What a rank computes of a batch, on its device."""

    batch: MinisetBatch
    graph: CandidateGraph  # candidates, with the slots that the gate reads
    part: Part

    @classmethod
    def of(cls, batch: MinisetBatch, part: Part, device: torch.device) -> Ready:
        """The part of a batch of the host; slots are found there, where nothing waits for it."""
        own = batch.of(part)
        graph = graph_of_mask(own.candidates).with_found()
        return cls(own.map(lambda x: sent(x, device)), graph.map(lambda x: sent(x, device)), part)


def augment(batch: MinisetBatch, training: GateTraining) -> MinisetBatch:
    """Noise and dropout on the embeddings, dropout of candidate edges."""
    h = batch.h + training.embedding_noise * torch.randn_like(batch.h)
    h = torch.nn.functional.dropout(h, training.embedding_dropout)
    kept = torch.rand(batch.candidates.shape, device=h.device) >= training.edge_drop
    return replace(batch, h=h, candidates=batch.candidates & kept)


def pretrain_gate(
    gate: EdgeGate,
    train: Sequence[Miniset],
    training: GateTraining,
    rng: np.random.Generator,
    supervision: GateSupervision = "T1",
    run: Run | None = None,
) -> None:
    """Train a gate alone on its KL divergence from the target walk, one random miniset per step, whose cells ranks share."""
    device, run = next(gate.parameters()).device, run or Run()
    dtype = fast_dtype(device, run.precision)
    order = rng.integers(len(train), size=training.gate_steps)

    def loss(step: int) -> Tensor:
        batch = augment(collate([train[order[step]]]), training)
        read = torch.rand(batch.mask.shape) < training.gate_share
        part, own = run.ranks.part(read.shape[1]), torch.zeros_like(read)
        own[:, part.rows] = True
        batch = replace(batch, candidates=batch.candidates & (read & own)[..., None])
        ready = Ready.of(batch, Ranks().part(1), device)
        scores = dense_gate(gate, ready.batch.h, ready.graph, dtype)
        target = ready.batch.log_reference
        return taught_gate_loss(scores, ready.graph, target, supervision, part, mix=training.gate_mix)

    training.descent(gate.parameters(), run, n_steps=training.gate_steps, schedule="constant").minimise(loss)
