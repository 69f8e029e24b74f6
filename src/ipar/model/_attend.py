"""Attention of a fitted model: which cells a cell looks at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ipar._run import Run
from ipar.graph import candidate_mask
from ipar.model._network import NetworkLayout
from ipar.model._outputs import Attention
from ipar.nn import dense_gate


@torch.no_grad()
def attention_rows(network: NetworkLayout, h: NDArray[np.float32], query: NDArray[np.int64], run: Run) -> Attention:
    """Attention rows of chosen cells, in one pass over a set of the trained size that holds them.

    Parameters
    ----------
    network
        The fitted network.
    h
        Embeddings of one slide, ``(n, d)``.
    query
        Positions of the cells to look at.
    run
        Seed of the other cells of the set, where there are more than one pass takes.
    """
    cells = np.arange(len(h))
    if len(h) > network.plan.direct_max:
        others = np.setdiff1d(cells, query)
        cells = np.sort(np.r_[query, run.rng.choice(others, network.plan.subset_size - len(query), replace=False)])
    rows = torch.from_numpy(np.searchsorted(cells, query))
    network.net.eval()
    sets = torch.from_numpy(h[cells])[None].to(next(network.net.parameters()).device)
    candidates = candidate_mask(sets, network.n_neighbors)
    scores = dense_gate(network.gate, sets, candidates)
    out = network.net(sets, candidates, scores, return_attention=True)
    if out.attention is None:  # pragma: no cover - asked for above
        raise RuntimeError
    weights = out.attention[:, 0, :, rows].permute(2, 0, 1, 3)  # (R, H, q, m) → (q, R, H, m)
    return Attention(query, cells, weights.cpu().numpy(), candidates[0, rows].cpu().numpy())
