"""The learned soft gate on candidate edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 64
_PIECE = 4096  # edges


class EdgeGate(nn.Module):
    r"""Score of a candidate edge: MLP on :math:`[h_i, h_j, |h_i - h_j|, h_i \circ h_j]`.

    The score is a bias on attention logits, never a pruning.

    Parameters
    ----------
    d_input
        Width of the embedding h.
    n_heads
        Outputs: 1 is shared by all attention heads.
    """

    def __init__(self, d_input: int, n_heads: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(4 * d_input, _HIDDEN)
        self.rest = nn.Sequential(nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, n_heads))

    def forward(self, h: Tensor, source: Tensor, target: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Score edges.

        Parameters
        ----------
        h
            Embeddings, ``(n, d_input)``.
        source, target
            Indices i and j of the edges, ``(m,)`` each.
        dtype
            Precision of the work on edges, which is nearly all of it; that of ``h``, if None.

        Returns
        -------
        Tensor
            Scores g_ij, ``(m, n_heads)``, in the precision of ``h``.
        """
        work = dtype or h.dtype
        # The first layer is linear in its four blocks: the two that depend on one cell are computed once a cell.
        w_i, w_j, w_diff, w_prod = torch.split(self.first.weight, h.shape[-1], dim=1)
        from_i, from_j = (h @ w_i.T + self.first.bias).to(work), (h @ w_j.T).to(work)
        hidden: Tensor = from_i.index_select(0, source) + from_j.index_select(0, target)
        cells = h.to(work)
        h_i, h_j = cells.index_select(0, source), cells.index_select(0, target)
        hidden = hidden + (h_i - h_j).abs() @ w_diff.T.to(work) + (h_i * h_j) @ w_prod.T.to(work)
        for layer in self.rest:
            if isinstance(layer, nn.Linear):
                hidden = functional.linear(hidden, layer.weight.to(work), layer.bias.to(work))
            else:
                hidden = layer(hidden)
        return hidden.to(h.dtype)


def dense_gate(gate: EdgeGate, h: Tensor, candidates: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Gate scores of sets as a matrix, computed on candidate edges only and zero elsewhere.

    Parameters
    ----------
    gate
        A gate with one output.
    h
        Embeddings, ``(B, n, d)``.
    candidates
        Candidate mask, ``(B, n, n)``.
    dtype
        Precision of the work on edges.

    Returns
    -------
    Tensor
        Scores, ``(B, n, n)``.
    """
    batch, source, target = candidates.nonzero(as_tuple=True)
    n, cells = h.shape[1], h.reshape(-1, h.shape[-1])
    # without gradients nothing is kept, and pieces that fit the cache take half the time
    piece = len(source) if torch.is_grad_enabled() else _PIECE
    ends = zip(torch.split(batch * n + source, piece), torch.split(batch * n + target, piece), strict=True)
    scores = torch.cat([gate(cells, i, j, dtype=dtype)[:, 0] for i, j in ends])
    return torch.zeros(candidates.shape, dtype=h.dtype, device=h.device).index_put((batch, source, target), scores)
