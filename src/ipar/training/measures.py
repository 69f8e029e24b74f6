"""What can be measured of attention, on tensors: whether it finds true neighbours, what moves it, how sharp it is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor


def top_cells(scores: Tensor, candidates: Tensor, n_top: int = 30) -> Tensor:
    """The ``n_top`` candidates with the highest scores, bool of the shape of the scores; all, where a cell has fewer.

    The default is about the number of true neighbours in a set of mean size.
    """
    allowed = candidates.expand_as(scores)
    best = scores.masked_fill(~allowed, float("-inf")).topk(min(n_top, scores.shape[-1]), dim=-1).indices
    return torch.zeros_like(allowed).scatter(-1, best, value=True) & allowed


def attention_recall(attention: Tensor, candidates: Tensor, neighbors: Tensor, n_top: int = 30) -> Tensor:
    """AttnRecall@30: share of the most attended cells that are true spatial neighbours, ``(...)`` of ``(..., n, m)``.

    Candidates and true neighbours (``WalkTarget.adjacency``) are bool ``(n, m)`` or broadcast to the weights. The mean over
    cells that have a candidate; uniform attention has the value of :func:`recall_chance`.
    """
    top = top_cells(attention, candidates, n_top)
    return _row_mean(_share(top & neighbors, top), candidates)


def recall_chance(candidates: Tensor, neighbors: Tensor) -> Tensor:
    """Expected :func:`attention_recall` of attention that cannot tell candidates apart: their share of true ones."""
    return _row_mean(_share(candidates & neighbors, candidates), candidates)


def precision_recall(scores: Tensor, candidates: Tensor, neighbors: Tensor, n_top: int = 30) -> tuple[Tensor, Tensor]:
    """Share of the best-scored candidates that are true neighbours, and share of all true neighbours among them.

    Means over cells, ``(...)`` each. Recall counts true neighbours that are no candidates as missed.
    """
    top = top_cells(scores, candidates, n_top)
    found = top & neighbors
    known = neighbors.expand_as(found)
    return _row_mean(_share(found, top), candidates), _row_mean(_share(found, known), neighbors)


def attention_entropy(attention: Tensor, candidates: Tensor) -> Tensor:
    """Mean row entropy in nats, over the cells that have a candidate, ``(...)``; at most log of their number."""
    return _row_mean(torch.special.entr(attention).sum(-1), candidates)


def logit_std(logits: Tensor, candidates: Tensor) -> Tensor:
    """Standard deviation of the logits over candidate edges, ``(...)`` of ``(..., n, m)``."""
    return logits[..., candidates].std(-1, correction=0)


def head_diversity(attention: Tensor, candidates: Tensor, n_top: int = 30) -> Tensor:
    """One minus the overlap (intersection over union) of a head's most attended cells with those of other heads.

    The mean over cells and over the other heads, ``(..., H)`` of ``(..., H, n, m)``: 0 where all agree, 1 where they share
    nothing.
    """
    top = top_cells(attention, candidates, n_top)
    first, second = top[..., :, None, :, :], top[..., None, :, :, :]
    iou = _row_mean(_share(first & second, first | second), candidates)
    n_heads = top.shape[-3]
    return (1.0 - iou).sum(-1) / (n_heads - 1)  # a head's distance to itself is 0


def displacement(layouts: Tensor) -> Tensor:
    r"""Root mean square step of every recycle, :math:`\lVert\Delta X\rVert / \sqrt n`, from ``(R + 1, n, 2)``: ``(R,)``."""
    return layouts.diff(dim=0).square().sum(-1).mean(-1).sqrt()


def edge_ranks(values: Tensor, candidates: Tensor) -> NDArray[np.float64]:
    """Centred average ranks over candidate edges with norm 1, ``(..., E)``; NaN where all values are equal."""
    ranks = rankdata(values[..., candidates].cpu().numpy(), axis=-1)
    ranks = ranks - ranks.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(ranks, norm, out=np.full_like(ranks, np.nan), where=norm > 0)
    return unit


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return part.sum(-1) / whole.sum(-1).clamp_min(1)


def _row_mean(values: Tensor, rows: Tensor) -> Tensor:
    """Mean over the rows that have anything."""
    there = rows.any(-1).to(values.dtype)
    return (values * there).sum(-1) / there.sum(-1).clamp_min(1.0)
