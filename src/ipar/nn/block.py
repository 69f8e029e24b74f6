"""Masked attention, and one recycle of IPA-Lite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.geometry import gauge_fix
from ipar.nn.config import IPALiteConfig
from ipar.nn.graph import CandidateGraph
from ipar.nn.kernels import fused_attention, has_kernel
from ipar.nn.terms import geometry_term


def by_head(gate: Tensor) -> Tensor:
    """Gate scores with an axis for heads, ``(B, 1 or H, n, m)``."""
    return gate if gate.ndim == 4 else gate[:, None]


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Features of every head, ``(B, n, H·d)`` to ``(B, H, n, d)``."""
    return x.view(*x.shape[:-1], n_heads, x.shape[-1] // n_heads).transpose(1, 2)


def attention_bias(mask: Tensor, gate: Tensor | None, beta: float | Tensor, dtype: torch.dtype) -> Tensor:
    """Candidate mask ``(B, n, m)`` and gate scores as a term of the logits, ``(B, 1 or H, n, m)``.

    It is ``β·g`` on candidates and very low elsewhere, but finite: a row of −∞ gives NaN after the softmax.
    """
    lowest = torch.full((), torch.finfo(dtype).min / 4, dtype=dtype, device=mask.device)
    scores = torch.zeros((), dtype=dtype, device=mask.device) if gate is None else beta * by_head(gate)
    return torch.where(mask[:, None], scores, lowest)


def masked_attention(query: Tensor, key: Tensor, bias: Tensor, graph: CandidateGraph) -> Tensor:
    """Attention weights ``(B, H, n, m)`` from scaled query and key ``(B, H, n, d)`` and other terms of the logits.

    Rows sum to 1, or to 0 for a cell without candidates.
    """
    return (graph.dot(query, key) + bias).softmax(-1) * graph.filled[:, None, :, None]


def attend(
    query: Tensor, key: Tensor, bias: Tensor, graph: CandidateGraph, values: Tensor, *, need_weights: bool = False
) -> tuple[Tensor, Tensor]:
    """Values ``(B, H, n, e)`` summed by attention weights, ``(B, H, n, e)``, and these weights, ``(B, H, n, m)``.

    Where a kernel does it in one pass and weights are not needed, the largest of each row stands for them, ``(B, H, n, 1)``.
    """
    if not need_weights and has_kernel(graph, query, key, bias, values):
        sums, largest = fused_attention(query, key, bias, graph, values)
        return sums, largest[..., None]
    weights = masked_attention(query, key, bias, graph)
    return graph.weighted_sum(weights, values), weights


@dataclass(frozen=True)
class Inputs:
    """What all recycles of a pass read: candidates, which cells are real, gate scores, pair features ``(B, n, m, d_pair)``."""

    graph: CandidateGraph
    mask: Tensor | None
    gate: Tensor | None
    pair: Tensor | None


class IPALiteBlock(nn.Module):
    r"""One recycle.

    .. math::
        a^h_{ij} &= \mathrm{softmax}_j\big(q_i \cdot k_j / \sqrt d + \beta g_{ij} \;[+\,\text{geometry}]\;[+\,\text{pair}]\big) \\
        \Delta x_i &= \textstyle\sum_h \sum_j a^h_{ij} W^h_x (x_j - x_i) \\
        s_i &\leftarrow s_i + \mathrm{MLP}\big(\mathrm{LayerNorm}(s_i), \textstyle\sum_j a^h_{ij} v_j\big) \\
        X &\leftarrow \mathrm{gauge\_fix}(X + \Delta x)
    """

    def __init__(self, config: IPALiteConfig, recycle: int | None = None) -> None:
        super().__init__()
        self.config = config
        c, inner = config.d_state, config.n_heads * config.d_head
        self.query = nn.Linear(c, inner, bias=False) if config.qk else None
        self.key = nn.Linear(c, inner, bias=False) if config.qk else None
        self.value = nn.Linear(c, inner, bias=False)
        self.step = nn.Parameter(torch.zeros(config.n_heads, 2, 2))
        if config.qk and config.qk_norm and not config.per_recycle:
            self.logit_scale = nn.Parameter(torch.tensor(0.5 * math.log(config.d_head)))
        # a shared block has γ even without the term
        self.geometry = geometry_term(config) if recycle is None or config.has_geometry(recycle) else None
        self.pair = nn.Linear(config.d_pair, config.n_heads, bias=False) if config.pair_bias else None
        self.norm = nn.LayerNorm(c)
        self.update = nn.Sequential(nn.Linear(c + inner, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        for parameter in self.update[-1].parameters():
            nn.init.zeros_(parameter)

    def _query_key(self, s: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scaled query and key; without the term they have no width, so that their products are zero."""
        if self.query is None or self.key is None:
            empty = s.new_zeros(s.shape[0], self.config.n_heads, s.shape[1], 0)
            return empty, empty
        query, key = (split_heads(layer(s), self.config.n_heads) for layer in (self.query, self.key))
        width = self.config.d_head
        if self.config.qk_norm is None:
            return query / math.sqrt(width), key
        scale = self.logit_scale.exp() if tau is None else tau
        if self.config.qk_norm == "cosine":  # normalised rows have length √d
            scale = scale / width
        return functional.layer_norm(query, (width,)) * scale, functional.layer_norm(key, (width,))

    def extra_terms(self, s: Tensor, x: Tensor, inputs: Inputs, *, geometry: bool) -> dict[str, Tensor]:
        """Geometry and pair terms of the logits, ``(B, H, n, m)`` each."""
        terms = {}
        if geometry and self.geometry is not None:
            terms["geometry"] = self.geometry(s, x, inputs.graph)
        if self.pair is not None and inputs.pair is not None:
            terms["pair"] = self.pair(inputs.pair).permute(0, 3, 1, 2)
        return terms

    def attend(
        self,
        s: Tensor,
        x: Tensor,
        inputs: Inputs,
        bias: Tensor,
        tau: Tensor | None,
        *,
        geometry: bool,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attended values and positions ``(B, H, n, d_head + 2)``, and weights as :func:`attend` gives them."""
        for term in self.extra_terms(s, x, inputs, geometry=geometry).values():
            bias = bias + term
        value = split_heads(self.value(s), self.config.n_heads)
        # one product gives messages and displacements
        both = torch.cat([value, self._positions(x)], dim=-1)
        return attend(*self._query_key(s, tau), bias, inputs.graph, both, need_weights=need_weights)

    def _positions(self, x: Tensor) -> Tensor:
        """The layout for every head, ``(B, H, n, 2)``."""
        return x[:, None].expand(-1, self.config.n_heads, -1, -1)

    def logit_terms(
        self, s: Tensor, x: Tensor, inputs: Inputs, tau: Tensor | None, *, geometry: bool
    ) -> dict[str, Tensor]:
        """All terms of the logits except the gate, by name."""
        terms = {"qk": inputs.graph.dot(*self._query_key(s, tau))} if self.config.qk else {}
        return terms | self.extra_terms(s, x, inputs, geometry=geometry)

    def move(self, s: Tensor, x: Tensor, attended: Tensor, inputs: Inputs, eta: Tensor | None) -> tuple[Tensor, Tensor]:
        """New states ``(B, n, c)`` and the new gauge-fixed layout ``(B, n, 2)``, by what :meth:`attend` gives."""
        # Σ_j a_ij (x_j − x_i) = Σ_j a_ij x_j − x_i, as rows sum to 1
        pull = attended[..., -2:] - self._positions(x) * inputs.graph.filled[:, None, :, None]
        shift = torch.einsum("hab,zhnb->zna", self.step, pull)
        message = attended[..., :-2].transpose(1, 2).flatten(2)
        s = s + self.update(torch.cat([self.norm(s), message], dim=-1))
        return s, gauge_fix(x + (shift if eta is None else eta * shift), inputs.mask)
