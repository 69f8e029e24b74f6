"""Standard checks after a fit, on a few minisets of the held-out slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipar._options import Checked, Count, Positive
from ipar.graph.candidates import cosine_candidates
from ipar.metrics import collapse
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of_mask
from ipar.training import measures
from ipar.training.minisets import Miniset
from ipar.training.validation import in_order


@dataclass(frozen=True)
class HealthChecks(Checked):
    """What is checked after a fit, and where a network counts as collapsed.

    Attributes
    ----------
    n_sets
        Minisets of the held-out slide.
    candidate_counts
        Numbers of candidates per cell whose recall is recorded, beside that of the fit.
    least_recall
        Recall of the fit's candidates below which a hint is logged.
    least_axis_ratio
        λ₂/λ₁ of a layout below which it is a line.
    least_median_distance
        Median distance below which it is a point, in RMS radii.
    most_logit_std
        Standard deviation of the logits above which attention has collapsed onto single cells.
    """

    n_sets: Count = 2
    candidate_counts: tuple[Count, ...] = (60, 80, 100, 120)
    least_recall: float = 0.95
    least_axis_ratio: float = 0.01
    least_median_distance: float = 0.01
    most_logit_std: Positive = 100.0

    def problems(self, health: dict[str, Any]) -> list[str]:
        """What is wrong with the figures of :func:`network_health`, in sentences with the figure and the limit."""
        found = []
        if health["axis_ratio"] < self.least_axis_ratio:
            found.append(
                f"a layout is a line (λ₂/λ₁ {health['axis_ratio']:.2g}, healthy above {self.least_axis_ratio:g})"
            )
        if health["median_distance"] < self.least_median_distance:
            found.append(
                f"a layout is a point (median distance {health['median_distance']:.2g}, healthy above "
                f"{self.least_median_distance:g})"
            )
        if max(health["logit_std"]) > self.most_logit_std:
            found.append(
                f"attention has collapsed onto single cells (standard deviation of the logits {max(health['logit_std']):.3g}, "
                f"healthy below {self.most_logit_std:g})"
            )
        return found


@torch.no_grad()
def network_health(net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset]) -> dict[str, Any]:
    """Figures of attention and of the last layout on held-out minisets.

    Returns
    -------
    dict
        Per recycle, as arrays, means over heads and sets: ``logit_std``, ``attention_entropy`` in nats, and
        ``attention_recall`` of the 30 most attended cells. ``attention_recall_chance``. The figures of
        :func:`ipar.metrics.collapse`: the worst of the sets of ``axis_ratio`` and ``median_distance``, and the means of
        ``nearest_p5`` and ``nearest_cv``.
    """
    net.eval()
    attention, chance, shapes = [], [], []
    for batch in in_order(sets, next(net.parameters()).device):
        graph = graph_of_mask(batch.candidates)
        out = net(batch.h, graph, dense_gate(gate, batch.h, graph), return_attention=True, return_terms=True)
        if out.attention is None or out.terms is None:  # pragma: no cover - asked for above
            raise RuntimeError
        mask, true = graph.mask[0], graph.of_pairs(batch.adjacency)[0]
        logits = torch.stack([_total(terms, out.attention[0, 0]) for terms in out.terms])
        weights = out.attention[:, 0]
        figures = (
            measures.logit_std(logits, mask),
            measures.attention_entropy(weights, mask),
            measures.attention_recall(weights, mask, true),
        )
        attention.append(torch.stack(figures).mean(-1).cpu().numpy())  # (3, R)
        chance.append(measures.recall_chance(mask, true).item())
        shapes.append(collapse(out.coords[0].double().cpu().numpy()))
    names = ("logit_std", "attention_entropy", "attention_recall")
    per_recycle = dict(zip(names, np.mean(attention, axis=0).astype(np.float64), strict=True))
    return {
        **per_recycle,
        "attention_recall_chance": float(np.mean(chance)),
        "axis_ratio": min(one.axis_ratio for one in shapes),
        "median_distance": min(one.median_distance for one in shapes),
        "nearest_p5": float(np.mean([one.nearest_p5 for one in shapes])),
        "nearest_cv": float(np.mean([one.nearest_cv for one in shapes])),
    }


def _total(terms: dict[str, Tensor], attention: Tensor) -> Tensor:
    """The logits of one set, of the shape of its attention ``(H, n, m)``."""
    total = torch.zeros_like(attention)
    for term in terms.values():
        total = total + term[0]
    return total


def candidate_recall(
    sets: Sequence[Miniset], counts: Sequence[int], nearest: Callable[[Tensor, int], Tensor] = cosine_candidates
) -> dict[str, float]:
    """Share of the true neighbours of a cell among its candidates, by their number: means over cells and sets.

    Candidates are sought anew within each set, by default by cosine distance. True neighbours are those of the training's
    targets.
    """
    found: dict[str, float] = {}
    for count in sorted(set(counts)):
        shares = []
        for one in sets:
            true = one.walk.adjacency
            hits = true.gather(-1, nearest(one.h, count)).sum(-1)
            shares.append((hits / true.sum(-1).clamp_min(1)).mean().item())
        found[str(count)] = round(float(np.mean(shares)), 4)
    return found
