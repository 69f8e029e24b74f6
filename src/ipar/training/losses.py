"""The losses of IPA-Lite on padded batches."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ipar._options import Checked
from ipar._ranks import Part, Ranks
from ipar.geometry.targets import log_edge_distance, log_stress, log_walk, walk_kl
from ipar.nn.config import GateSupervision
from ipar.nn.draws import drawn
from ipar.nn.graph import CandidateGraph
from ipar.training.minisets import MinisetBatch


@dataclass(frozen=True)
class LossWeights(Checked):
    """Weights of the terms of the training loss; that of the walk is reached over some epochs."""

    walk: float = 0.3
    stress: float = 0.1
    repulsion: float = 0.01
    entropy: float = 0.01
    gate: float = 0.05


@dataclass(frozen=True)
class LayoutLosses:
    """Terms of one batch, each the mean over its sets."""

    walk: Tensor
    stress: Tensor
    repulsion: Tensor
    entropy: Tensor

    def as_dict(self) -> dict[str, Tensor]:
        """Terms by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def repulsion(
    x: Tensor, mask: Tensor, everyone: Tensor | None = None, *, tau: float = 0.01, n_pairs: int = 256
) -> Tensor:
    """Mean of exp(−‖x_i − x_j‖²/τ) over random pairs of distinct cells per set: keeps points from collapsing.

    Of a part of a batch, ``everyone`` is the mask of all sets.
    """
    weight = (mask if everyone is None else everyone).float()
    first, second = (
        drawn(lambda _: torch.multinomial(weight, n_pairs, replacement=True), (len(mask), n_pairs)) for _ in range(2)
    )
    take = torch.stack([first, second], 1)[..., None].expand(-1, -1, -1, 2)  # (B, 2, pairs, 2)
    ends = x[:, None].expand(-1, 2, -1, -1).gather(2, take)
    closeness = (-(ends[:, 0] - ends[:, 1]).square().sum(-1) / tau).exp()
    distinct = (first != second).to(x.dtype)
    return (closeness * distinct).sum(-1).div(distinct.sum(-1).clamp_min(1.0)).mean()


def entropy_regulariser(log_predicted: Tensor, mask: Tensor) -> Tensor:
    """Negative mean row entropy of the predicted one-step walk, in nats."""
    on_edge = log_predicted > float("-inf")
    rows = (log_predicted.exp() * log_predicted.masked_fill(~on_edge, 0.0)).sum(-1)
    return ((rows * mask).sum(-1) / mask.sum(-1).clamp_min(1)).mean()


def layout_losses(x: Tensor, batch: MinisetBatch) -> LayoutLosses:
    """All terms of a gauge-fixed layout ``(B, n, 2)``."""
    log_predicted = log_walk(x, batch.adjacency, batch.sigma)
    walk, stress = _energies(x, log_predicted, batch)
    return LayoutLosses(
        walk=walk,
        stress=stress,
        repulsion=repulsion(x, batch.mask, batch.everyone),
        entropy=entropy_regulariser(log_predicted, batch.mask),
    )


def e_geo(x: Tensor, batch: MinisetBatch, stress_weight: float = 0.1) -> Tensor:
    """The reported energy of a gauge-fixed layout, 1.0·L_RW + 0.1·L_stress: the 1.0 is not the training weight.

    It draws no random numbers, so that looking at it changes nothing in a training run.
    """
    walk, stress = _energies(x, log_walk(x, batch.adjacency, batch.sigma), batch)
    return walk + stress_weight * stress


def _energies(x: Tensor, log_predicted: Tensor, batch: MinisetBatch) -> tuple[Tensor, Tensor]:
    walk = walk_kl(batch.log_reference, log_predicted, batch.steps, batch.mask, most_steps=batch.most_steps)
    stress = log_stress(log_edge_distance(x, batch.edges), batch.log_true, batch.edge_mask)
    return walk.mean(), stress.mean()


def taught_gate_loss(
    gate: Tensor,
    graph: CandidateGraph,
    log_reference: Tensor,
    supervision: GateSupervision = "T1",
    part: Part | None = None,
    *,
    mix: float = 0.5,
) -> Tensor:
    """:func:`gate_loss` from what the gate is taught, given the log of the target walk P, ``(B, n, n)``.

    ``"T1"`` is the divergence KL₁ from P, ``"T2"`` that from P², KL₂, and ``"mix"`` is KL₁ + mix·KL₂.
    """
    targets = []
    if supervision != "T2":
        targets.append((1.0, log_reference))
    if supervision != "T1":
        one = log_reference.exp()
        targets.append((1.0 if supervision == "T2" else mix, (one @ one).log()))
    losses = [weight * gate_loss(gate, graph.mask, graph.of_pairs(target), part) for weight, target in targets]
    return torch.stack(losses).sum()


def gate_loss(gate: Tensor, candidates: Tensor, log_reference: Tensor, part: Part | None = None) -> Tensor:
    """KL divergence of the gate's softmax over the candidates from the target walk restricted to them, in nats.

    Takes scores ``(B, n, m)``, or ``(B, H, n, m)`` of a gate with one output per head, the candidate mask and the log of the
    target, ``(B, n, m)``. The mean over the cells that have a true neighbour among their candidates (and over heads). Of a
    part of a batch, these cells' share in the mean over the batch.
    """
    part = part or Ranks().part(1)
    if gate.ndim == 4:
        candidates, log_reference = (x[:, None].expand_as(gate) for x in (candidates, log_reference))
    shared = candidates & (log_reference > float("-inf"))
    rows = shared.any(-1)
    lowest = torch.finfo(gate.dtype).min / 2
    target = log_reference.masked_fill(~shared, lowest).log_softmax(-1)
    predicted = gate.masked_fill(~candidates, lowest).log_softmax(-1)
    gap = (target - predicted).masked_fill(~shared, 0.0)
    kl = (target.exp().masked_fill(~shared, 0.0) * gap).sum(-1)
    return part.present * (kl * rows).sum() / part.count(rows.sum()).clamp_min(1)
