"""Attention of a fitted model: which cells a cell looks at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ipar.graph import candidate_mask
from ipar.model._ipalite import IPALite
from ipar.model._outputs import Attention
from ipar.nn import dense_gate


@torch.no_grad()
def attention_rows(
    model: IPALite, h: NDArray[np.float32], query: NDArray[np.int64], *, random_state: int = 0
) -> Attention:
    """Attention rows of chosen cells, in one pass over a set of the trained size that holds them.

    Parameters
    ----------
    model
        The fitted model.
    h
        Embeddings of one slide, ``(n, d)``.
    query
        Positions of the cells to look at.
    random_state
        Seed of the other cells of the set, where there are more than one pass takes.
    """
    cells = np.arange(len(h))
    if len(h) > model.plan.direct_max:
        others = np.setdiff1d(cells, query)
        rng = np.random.default_rng(random_state)
        cells = np.sort(np.r_[query, rng.choice(others, model.plan.subset_size - len(query), replace=False)])
    rows = torch.from_numpy(np.searchsorted(cells, query))
    model.net.eval()
    sets = torch.from_numpy(h[cells])[None].to(next(model.net.parameters()).device)
    candidates = candidate_mask(sets, model.n_neighbors)
    scores = dense_gate(model.gate, sets, candidates)
    out = model.net(sets, candidates, scores, beta=model.beta, return_attention=True)
    if out.attention is None:  # pragma: no cover - asked for above
        raise RuntimeError
    weights = out.attention[:, 0, :, rows].permute(2, 0, 1, 3)  # (R, H, q, m) → (q, R, H, m)
    return Attention(query, cells, weights.cpu().numpy(), candidates[0, rows].cpu().numpy())
