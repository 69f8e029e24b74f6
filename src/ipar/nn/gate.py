"""Networks on candidate edges: the learned soft gate, and the pair features."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.nn.graph import CandidateGraph, as_graph
from ipar.nn.linear import DifferencesLinear


class EdgeMLP(nn.Module):
    r"""MLP on :math:`[h_i, h_j, |h_i - h_j|, h_i \circ h_j]` of candidate edges."""

    PIECE: ClassVar[tuple[int, int]] = (4096, 2**18)
    """Edges read at once, on a CPU and elsewhere: pieces that fit a CPU's cache take half the time."""

    MULTIPLE: ClassVar[int] = 512
    """Numbers of edges are filled up to multiples of this: torch keeps a kernel for every shape that it has met, which in a long
    prediction came to 500 MB."""

    def __init__(self, d_input: int, hidden: tuple[int, ...], n_output: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * d_input, hidden[0])
        layers: list[nn.Module] = []
        for before, after in pairwise(hidden):
            layers += [nn.GELU(), nn.Linear(before, after)]
        # outputs are terms of the logits of a softmax over the edges of a cell
        self.rest = nn.Sequential(*layers, nn.GELU(), DifferencesLinear(hidden[-1], n_output))

    def forward(
        self,
        h: Tensor,
        source: Tensor,
        target: Tensor,
        *,
        both_ways: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Outputs ``(m, n_output)`` of edges i → j between embeddings ``(n, d_input)``, computed in the given precision.

        With ``both_ways``, those of the edges j → i follow, ``(2m, n_output)``: both share most of the first layer.
        """
        work = dtype or h.dtype
        # the first layer is linear in its four blocks: the two that depend on one cell are computed once per cell
        w_i, w_j, w_diff, w_prod = torch.split(self.first.weight, h.shape[-1], dim=1)
        from_i, from_j = (h @ w_i.T + self.first.bias).to(work), (h @ w_j.T).to(work)
        cells, w_diff, w_prod = h.to(work), w_diff.T.to(work), w_prod.T.to(work)
        piece, n = self.PIECE[h.device.type != "cpu"], len(source)
        source, target = (functional.pad(cells, (0, -n % self.MULTIPLE)) for cells in (source, target))
        found: tuple[list[Tensor], ...] = ([], []) if both_ways else ([],)
        for i, j in zip(torch.split(source, piece), torch.split(target, piece), strict=True):
            h_i, h_j = cells.index_select(0, i), cells.index_select(0, j)
            symmetric = (h_i - h_j).abs() @ w_diff + (h_i * h_j) @ w_prod
            for (a, b), outputs in zip(((i, j), (j, i)), found, strict=False):
                hidden = symmetric + from_i.index_select(0, a) + from_j.index_select(0, b)
                outputs.append(self._deeper(hidden, work))
        return torch.cat([torch.cat(outputs)[:n] for outputs in found]).to(h.dtype)

    def _deeper(self, hidden: Tensor, work: torch.dtype) -> Tensor:
        for layer in self.rest:
            if isinstance(layer, nn.Linear):
                hidden = functional.linear(hidden, layer.weight.to(work), layer.bias.to(work))
            else:
                hidden = layer(hidden)
        return hidden


class EdgeGate(EdgeMLP):
    """Score of a candidate edge, added to the attention logits.

    Parameters
    ----------
    d_input
        Width of the embedding.
    n_heads
        Outputs: one per attention head, or 1 shared by all.
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, d_input: int, n_heads: int = 1, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__(d_input, hidden, n_heads)


def edge_outputs(
    network: EdgeMLP, embedding: Tensor, candidates: Tensor | CandidateGraph, dtype: torch.dtype | None = None
) -> Tensor:
    """Outputs of a network on candidate edges, ``(B, n, m, n_output)``, and zero in all other slots."""
    graph, flat = as_graph(candidates), embedding.reshape(-1, embedding.shape[-1])
    mutual = graph.index is None  # as most candidates in a matrix are
    source, target, slots = graph.pairs() if mutual else graph.edges()
    found = network(flat, source, target, both_ways=mutual, dtype=dtype)
    out = torch.zeros(*graph.mask.shape, found.shape[-1], dtype=embedding.dtype, device=embedding.device)
    if not mutual:
        return out.index_put(slots, found)
    forth, back = found.chunk(2)
    batch, i, j = slots
    return out.index_put((batch, i, j), forth).index_put((batch, j, i), back) * graph.mask[..., None]


def dense_gate(
    gate: EdgeGate, embedding: Tensor, candidates: Tensor | CandidateGraph, dtype: torch.dtype | None = None
) -> Tensor:
    """Gate scores of sets of cells: computed on candidate edges, zero elsewhere.

    Parameters
    ----------
    gate
        The gate.
    embedding
        Embeddings, ``(B, n, d)``.
    candidates
        Candidate mask ``(B, n, n)``, or a graph with ``m`` slots per cell.
    dtype
        Precision of the work on edges (default: that of the embeddings).

    Returns
    -------
    Tensor
        Scores ``(B, n, m)``, or ``(B, H, n, m)`` for a gate with one output per head.
    """
    scores = edge_outputs(gate, embedding, candidates, dtype)
    return scores[..., 0] if scores.shape[-1] == 1 else scores.permute(0, 3, 1, 2)
