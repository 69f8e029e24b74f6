"""Masked attention as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from ipar.nn._graph import CandidateGraph


def attention_bias(mask: Tensor, gate: Tensor | None, beta: float | Tensor, dtype: torch.dtype) -> Tensor:
    """Candidate mask and gate as one additive term of the logits.

    Parameters
    ----------
    mask
        Allowed pairs, bool ``(B, n, m)``.
    gate
        Gate scores, ``(B, n, m)``, or ``(B, H, n, m)`` for a gate with an output a head; zero, if None.
    beta
        Weight of the gate.
    dtype
        Precision of the logits.

    Returns
    -------
    Tensor
        ``β·g`` on candidates, a very low finite number elsewhere, ``(B, 1 or H, n, m)``. Finite, since a row of −∞ is NaN
        after the softmax and, masked or not, NaN in the gradient.
    """
    lowest = torch.full((), torch.finfo(dtype).min / 4, dtype=dtype, device=mask.device)
    if gate is None:
        scores = torch.zeros((), dtype=dtype, device=mask.device)
    else:
        scores = beta * (gate if gate.ndim == 4 else gate[:, None])
    return torch.where(mask[:, None], scores, lowest)


def masked_attention(query: Tensor, key: Tensor, bias: Tensor, graph: CandidateGraph) -> Tensor:
    """Attention weights over the allowed pairs.

    Parameters
    ----------
    query, key
        ``(B, H, n, d)``, the query scaled.
    bias
        From :func:`attention_bias`, with the other terms where there are any; ``(B, 1 or H, n, m)``.
    graph
        The candidates.

    Returns
    -------
    Tensor
        Weights ``(B, H, n, m)``: rows sum to 1, or are all zero where a cell has no candidate.
    """
    return (graph.dot(query, key) + bias).softmax(-1) * graph.mask.any(-1)[:, None, :, None]
