"""What a network attends to, recycle by recycle and head by head, measured in its own forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar.geometry import gauge_fix
from ipar.geometry.targets import walk_target
from ipar.graph.candidates import candidate_mask
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.ipalite import IPALiteOutput
from ipar.nn.terms import PointTerm
from ipar.training import measures as measures

Key = tuple[str, int, int]
"""Measure, recycle and head, counted from 1; 0 for all of them together."""


@dataclass(frozen=True)
class ProbeSet:
    """One set of cells to look at."""

    h: Tensor
    candidates: Tensor  # bool (n, n)
    neighbors: Tensor | None = None  # true neighbours, bool (n, n); None where coordinates are unknown


def probe_set(h: Tensor, coords: Tensor | None, n_neighbors: int) -> ProbeSet:
    """Candidates from embeddings ``(n, d)`` and, where coordinates ``(n, 2)`` are known, the target graph."""
    neighbors = None if coords is None else walk_target(gauge_fix(coords)).adjacency
    return ProbeSet(h, candidate_mask(h, n_neighbors), neighbors)


@torch.no_grad()
def diagnose(net: IPALiteNet, gate: EdgeGate, sets: Iterable[ProbeSet], *, beta: float | None = None) -> pd.DataFrame:
    """Measure attention on sets of cells, with the weight ``beta`` of the gate (default: the config's).

    Returns
    -------
    DataFrame
        One row per measure, recycle and head: ``measure, recycle, head, value, sd, n_sets``, mean and standard deviation
        over sets. Recycle and head are counted from 1; 0 stands for all of them together. What needs the truth, what
        the network does not have and what is undefined (the correlation with a constant term) has no row.
    """
    net.eval()
    gate.eval()
    found: dict[Key, list[float]] = defaultdict(list)
    for one in sets:
        for key, value in measure_set(net, gate, one, beta=beta):
            found[key].append(value)
    rows = [(*key, np.mean(values), np.std(values), len(values)) for key, values in found.items()]
    return pd.DataFrame(rows, columns=["measure", "recycle", "head", "value", "sd", "n_sets"])


def measure_set(
    net: IPALiteNet, gate: EdgeGate, one: ProbeSet, *, beta: float | None = None
) -> Iterator[tuple[Key, float]]:
    """All measures of one set from one pass of the network."""
    device = next(net.parameters()).device
    h, candidates = one.h[None].to(device), one.candidates.to(device)
    scores = dense_gate(gate, h, candidates[None])
    out = net(h, candidates[None], scores, beta=beta, return_attention=True, return_terms=True)
    if out.attention is None or out.terms is None:  # pragma: no cover - asked for above
        raise RuntimeError
    attention = out.attention[:, 0]  # (R, H, n, n)
    neighbors = None if one.neighbors is None else one.neighbors.to(device)
    yield from _per_head(attention, candidates, neighbors)
    for recycle, terms in enumerate(out.terms, start=1):
        own = {name: term[0] for name, term in terms.items()}
        yield from _logits(recycle, attention[recycle - 1], own, candidates)
    yield from _numbered("displacement", measures.displacement(out.layouts[:, 0])[:, None], shared=True)
    yield from _offsets(net, out)
    if neighbors is not None:
        yield from _gate(scores[0], candidates, neighbors)
        yield ("attention_recall_chance", 0, 0), measures.recall_chance(candidates, neighbors).item()


def _numbered(
    measure: str, values: Tensor | NDArray[np.float64], *, shared: bool = False
) -> Iterator[tuple[Key, float]]:
    """Entries of ``(R, H)`` values; head 0 where heads share them."""
    for recycle, row in enumerate(values.tolist(), start=1):
        for head, value in enumerate(row, start=0 if shared else 1):
            if np.isfinite(value):
                yield (measure, recycle, head), value


def _per_head(attention: Tensor, candidates: Tensor, neighbors: Tensor | None) -> Iterator[tuple[Key, float]]:
    if neighbors is not None:
        yield from _numbered("attention_recall", measures.attention_recall(attention, candidates, neighbors))
    yield from _numbered("attention_entropy", measures.attention_entropy(attention, candidates))
    if attention.shape[1] > 1:
        yield from _numbered("head_diversity", measures.head_diversity(attention, candidates))


def _logits(
    recycle: int, attention: Tensor, terms: dict[str, Tensor], candidates: Tensor
) -> Iterator[tuple[Key, float]]:
    """Spread of the logits, and the correlation of attention ``(H, n, n)`` with every term of them."""
    ranks = measures.edge_ranks(attention, candidates)
    total = torch.zeros_like(attention)
    for name, term in terms.items():
        total = total + term
        rho = (ranks * measures.edge_ranks(term, candidates)).sum(axis=-1)
        yield from _heads(f"rho_{name}", recycle, rho.tolist())
    yield from _heads("logit_std", recycle, measures.logit_std(total, candidates).tolist())


def _heads(measure: str, recycle: int, values: Iterable[float]) -> Iterator[tuple[Key, float]]:
    return (((measure, recycle, head), value) for head, value in enumerate(values, start=1) if np.isfinite(value))


def _offsets(net: IPALiteNet, out: IPALiteOutput) -> Iterator[tuple[Key, float]]:
    """Mean norms of the point term's offsets, from the states that its recycles read."""
    if out.states is None:  # pragma: no cover - asked for with the terms
        raise RuntimeError
    for recycle, s in enumerate(out.states, start=1):
        block = net.blocks[0 if net.config.shared else recycle - 1]
        if net.config.has_geometry(recycle - 1) and isinstance(block.geometry, PointTerm):
            for name, offset in zip(("query", "key"), block.geometry.offsets(s), strict=True):
                yield from _heads(f"offset_{name}", recycle, offset.norm(dim=-1).mean(dim=(0, 2)).tolist())


def _gate(scores: Tensor, candidates: Tensor, neighbors: Tensor) -> Iterator[tuple[Key, float]]:
    """Precision and recall of the gate; per head, where it has an output for each."""
    precision, recall = measures.precision_recall(scores, candidates, neighbors)
    for name, value in (("gate_precision", precision), ("gate_recall", recall)):
        if value.ndim:
            yield from _heads(name, 0, value.tolist())
        else:
            yield (name, 0, 0), value.item()
