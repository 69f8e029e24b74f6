"""Masked attention as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_bias(candidates: Tensor, gate: Tensor | None, beta: float, dtype: torch.dtype) -> Tensor:
    """Candidate mask and gate as one additive term of the logits.

    Parameters
    ----------
    candidates
        Allowed pairs, bool ``(B, n, n)``.
    gate
        Gate scores, ``(B, n, n)``; zero, if None.
    beta
        Weight of the gate.
    dtype
        Precision of the logits.

    Returns
    -------
    Tensor
        ``β·g`` on candidates, a very low finite number elsewhere, ``(B, n, n)``. Finite, since a row of −∞ is NaN after
        the softmax and, masked or not, NaN in the gradient.
    """
    lowest = torch.finfo(dtype).min / 4
    scores = torch.zeros((), dtype=dtype, device=candidates.device) if gate is None else beta * gate
    return torch.where(candidates, scores, torch.full((), lowest, dtype=dtype, device=candidates.device))


def masked_attention(query: Tensor, key: Tensor, bias: Tensor, has_candidate: Tensor) -> Tensor:
    """Attention weights over the allowed pairs.

    Parameters
    ----------
    query, key
        ``(B, H, n, d)``, the query scaled.
    bias
        From :func:`attention_bias`, with the geometry term where there is one; ``(B, 1 or H, n, n)``.
    has_candidate
        Which cells have any, ``(B, 1, n, 1)``.

    Returns
    -------
    Tensor
        Weights ``(B, H, n, n)``: rows sum to 1, or are all zero where a cell has no candidate.
    """
    return (query @ key.mT + bias).softmax(-1) * has_candidate
