"""Networks on candidate edges: the learned soft gate, and the pair features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.nn.graph import CandidateGraph, as_graph

_HIDDEN = 64
# edges read at once: on a CPU, pieces that fit the cache take half the time of all of them, with gradients too
_PIECE, _PIECE_ELSEWHERE = 4096, 2**18


class EdgeMLP(nn.Module):
    r"""MLP on :math:`[h_i, h_j, |h_i - h_j|, h_i \circ h_j]` of candidate edges.

    Parameters
    ----------
    d_input
        Width of the embedding h.
    hidden
        Widths of the hidden layers.
    n_output
        Outputs an edge.
    """

    def __init__(self, d_input: int, hidden: tuple[int, ...], n_output: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * d_input, hidden[0])
        widths = [*hidden, n_output]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.GELU(), nn.Linear(before, after)]
        self.rest = nn.Sequential(*layers)

    def forward(self, h: Tensor, source: Tensor, target: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Read edges.

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
            Outputs, ``(m, n_output)``, in the precision of ``h``.
        """
        work = dtype or h.dtype
        # The first layer is linear in its four blocks: the two that depend on one cell are computed once a cell.
        w_i, w_j, w_diff, w_prod = torch.split(self.first.weight, h.shape[-1], dim=1)
        from_i, from_j = (h @ w_i.T + self.first.bias).to(work), (h @ w_j.T).to(work)
        cells, w_diff, w_prod = h.to(work), w_diff.T.to(work), w_prod.T.to(work)
        piece = _PIECE if h.device.type == "cpu" else _PIECE_ELSEWHERE
        found = []
        for i, j in zip(torch.split(source, piece), torch.split(target, piece), strict=True):
            h_i, h_j = cells.index_select(0, i), cells.index_select(0, j)
            hidden = from_i.index_select(0, i) + from_j.index_select(0, j)
            found.append(self._deeper(hidden + (h_i - h_j).abs() @ w_diff + (h_i * h_j) @ w_prod, work))
        return torch.cat(found).to(h.dtype)

    def _deeper(self, hidden: Tensor, work: torch.dtype) -> Tensor:
        for layer in self.rest:
            if isinstance(layer, nn.Linear):
                hidden = functional.linear(hidden, layer.weight.to(work), layer.bias.to(work))
            else:
                hidden = layer(hidden)
        return hidden


class EdgeGate(EdgeMLP):
    """Score of a candidate edge: a bias on attention logits, never a pruning.

    Parameters
    ----------
    d_input
        Width of the embedding h.
    n_heads
        Outputs: 1 is shared by all attention heads.
    """

    def __init__(self, d_input: int, n_heads: int = 1) -> None:
        super().__init__(d_input, (_HIDDEN, _HIDDEN), n_heads)


def edge_outputs(
    network: EdgeMLP, h: Tensor, candidates: Tensor | CandidateGraph, dtype: torch.dtype | None = None
) -> Tensor:
    """Outputs of a network on the candidate edges of sets, and zero in all other slots.

    Parameters
    ----------
    network
        The network.
    h
        Embeddings, ``(B, n, d)``.
    candidates
        Candidate mask ``(B, n, n)``, or a graph of ``m`` slots a cell.
    dtype
        Precision of the work on edges.

    Returns
    -------
    Tensor
        ``(B, n, m, n_output)``.
    """
    graph = as_graph(candidates)
    source, target, slots = graph.edges()
    found = network(h.reshape(-1, h.shape[-1]), source, target, dtype=dtype)
    out = torch.zeros(*graph.mask.shape, found.shape[-1], dtype=h.dtype, device=h.device)
    return out.index_put(slots, found)


def dense_gate(
    gate: EdgeGate, h: Tensor, candidates: Tensor | CandidateGraph, dtype: torch.dtype | None = None
) -> Tensor:
    """Gate scores of sets, computed on candidate edges only and zero elsewhere.

    Parameters
    ----------
    gate, h, candidates, dtype
        As in :func:`edge_outputs`.

    Returns
    -------
    Tensor
        Scores ``(B, n, m)``, or ``(B, H, n, m)`` of a gate with an output a head.
    """
    scores = edge_outputs(gate, h, candidates, dtype)
    return scores[..., 0] if scores.shape[-1] == 1 else scores.permute(0, 3, 1, 2)
