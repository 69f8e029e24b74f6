"""IPA-Lite: invariant point attention cut down to two dimensions.

Raw coordinates, no frames: a few recycles of attention over a candidate graph built from expression, each moving
every cell by a linear map of the attended displacements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.geometry import gauge_fix
from ipar.nn._attention import attention_bias, masked_attention
from ipar.nn._config import IPALiteConfig
from ipar.nn._gate import EdgeMLP, edge_outputs
from ipar.nn._graph import CandidateGraph, as_graph
from ipar.nn._terms import RecycleSchedule, geometry_term

_PAIR_HIDDEN, _PAIR_OUTPUT = 64, 32


@dataclass(frozen=True)
class IPALiteOutput:
    """What a pass of the network gives.

    Attributes
    ----------
    layouts
        The first guess and the layout after every recycle, gauge-fixed, ``(R + 1, B, n, 2)``.
    attention
        Weights of every recycle, ``(R, B, H, n, m)``, where asked for.
    terms
        Terms of the logits of every recycle by name (``"qk"``, ``"geometry"``, ``"pair"``, ``"gate"``; those that the
        network has), ``(B, 1 or H, n, m)`` each, where asked for.
    states
        Node states that every recycle read, ``(R, B, n, d_state)``, where terms were asked for.
    """

    layouts: Tensor
    attention: Tensor | None
    terms: list[dict[str, Tensor]] | None = None
    states: Tensor | None = None

    @property
    def coords(self) -> Tensor:
        """The last layout, ``(B, n, 2)``."""
        return self.layouts[-1]


@dataclass(frozen=True)
class _Inputs:
    """What all recycles of a pass read.

    Attributes
    ----------
    graph, mask
        Candidates, and which cells are real.
    gate
        Gate scores or None.
    pair
        Pair features ``(B, n, m, 32)`` or None.
    """

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

    Parameters
    ----------
    config
        Shape of the network.
    recycle
        The recycle that the block is for; None for one that all share.
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
        # a shared block owns γ even where the term is off
        self.geometry = geometry_term(config) if recycle is None or config.has_geometry(recycle) else None
        self.pair = nn.Linear(_PAIR_OUTPUT, config.n_heads, bias=False) if config.pair_bias else None
        self.norm = nn.LayerNorm(c)
        self.update = nn.Sequential(nn.Linear(c + inner, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        for parameter in self.update[-1].parameters():
            nn.init.zeros_(parameter)

    def _heads(self, x: Tensor) -> Tensor:
        batch, n, _ = x.shape
        return x.view(batch, n, self.config.n_heads, self.config.d_head).transpose(1, 2)  # (B, H, n, d)

    def _query_key(self, s: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor]:
        """Query, scaled, and key; of no width, so that their products are zero, where the term is left out."""
        if self.query is None or self.key is None:
            empty = s.new_zeros(s.shape[0], self.config.n_heads, s.shape[1], 0)
            return empty, empty
        query, key, width = self._heads(self.query(s)), self._heads(self.key(s)), self.config.d_head
        if not self.config.qk_norm:
            return query / math.sqrt(width), key
        scale = self.logit_scale.exp() if tau is None else tau
        # normed rows have length √d: over d their product is a cosine
        return functional.layer_norm(query, (width,)) * (scale / width), functional.layer_norm(key, (width,))

    def extra_terms(self, s: Tensor, x: Tensor, inputs: _Inputs, *, geometry: bool) -> dict[str, Tensor]:
        """Terms of the logits beside query and key and the gate, ``(B, H, n, m)`` each."""
        terms = {}
        if geometry and self.geometry is not None:
            terms["geometry"] = self.geometry(s, x, inputs.graph)
        if self.pair is not None and inputs.pair is not None:
            terms["pair"] = self.pair(inputs.pair).permute(0, 3, 1, 2)
        return terms

    def attend(
        self, s: Tensor, x: Tensor, inputs: _Inputs, bias: Tensor, tau: Tensor | None, *, geometry: bool
    ) -> Tensor:
        """Attention weights, ``(B, H, n, m)``."""
        for term in self.extra_terms(s, x, inputs, geometry=geometry).values():
            bias = bias + term
        return masked_attention(*self._query_key(s, tau), bias, inputs.graph)

    def logit_terms(
        self, s: Tensor, x: Tensor, inputs: _Inputs, tau: Tensor | None, *, geometry: bool
    ) -> dict[str, Tensor]:
        """All terms of the logits but the gate's, by name."""
        terms = {"qk": inputs.graph.dot(*self._query_key(s, tau))} if self.config.qk else {}
        return terms | self.extra_terms(s, x, inputs, geometry=geometry)

    def move(
        self, s: Tensor, x: Tensor, attention: Tensor, inputs: _Inputs, eta: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """New states ``(B, n, c)`` and the new gauge-fixed layout ``(B, n, 2)``."""
        value = self._heads(self.value(s))
        # one product serves messages and displacements; Σ_j a_ij (x_j − x_i) = Σ_j a_ij x_j − x_i, as rows sum to 1
        position = x[:, None].expand(-1, self.config.n_heads, -1, -1)
        gathered = inputs.graph.weighted_sum(attention, torch.cat([value, position], dim=-1))
        pull = gathered[..., -2:] - position * inputs.graph.mask.any(-1)[:, None, :, None]
        shift = torch.einsum("hab,zhnb->zna", self.step, pull)
        message = gathered[..., :-2].transpose(1, 2).flatten(2)
        s = s + self.update(torch.cat([self.norm(s), message], dim=-1))
        return s, gauge_fix(x + (shift if eta is None else eta * shift), inputs.mask)


class IPALiteNet(nn.Module):
    """Embeddings and a candidate graph in, coordinates out.

    Parameters
    ----------
    config
        Shape of the network; V1 by default.
    """

    def __init__(self, config: IPALiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IPALiteConfig.v1()
        d, c = config.d_input, config.d_state
        self.state_input = nn.Sequential(nn.Linear(d, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        self.coord_input = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, 2))
        recycles: list[int | None] = [None] if config.shared else [*range(config.n_recycles)]
        self.blocks = nn.ModuleList(IPALiteBlock(config, recycle) for recycle in recycles)
        self.pair = EdgeMLP(d, (_PAIR_HIDDEN,), _PAIR_OUTPUT) if config.pair_bias else None
        self.schedule = RecycleSchedule(config) if config.per_recycle else None

    def forward(
        self,
        h: Tensor,
        candidates: Tensor | CandidateGraph,
        gate: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        beta: float | None = None,
        return_attention: bool = False,
        return_terms: bool = False,
    ) -> IPALiteOutput:
        """Lay out sets of cells.

        Parameters
        ----------
        h
            Embeddings, ``(B, n, d_input)``.
        candidates
            Which cells each may attend to: bool ``(B, n, n)``, or a graph of ``m`` slots a cell.
        gate
            Gate scores, ``(B, n, m)`` or ``(B, H, n, m)``; zero, if None.
        mask
            Which cells are real, bool ``(B, n)``; all, if None.
        beta
            Weight of the gate; the config's, if None. Where every recycle has its own, they are scaled by ``beta`` over
            the config's.
        return_attention, return_terms
            Keep the attention weights, and the terms of the logits with the node states; weights and a term take
            ``R·B·H·n·m`` floats each.

        Returns
        -------
        IPALiteOutput
            Layouts and, where asked for, attention weights and terms.
        """
        graph, weight = as_graph(candidates), self.config.beta if beta is None else beta
        gate = gate if self.config.gate else None
        pair = None if self.pair is None else edge_outputs(self.pair, h, graph)
        inputs = _Inputs(graph, mask, gate, pair)
        s, x = self.state_input(h), self.coord_input(h)
        if self.training and self.config.coord_noise:
            x = x + self.config.coord_noise * torch.randn_like(x)
        x = gauge_fix(x, mask)
        fixed = attention_bias(graph.mask, gate, weight, h.dtype)
        layouts, attentions, terms, states = [x], [], [], []
        for recycle in range(self.config.n_recycles):
            block = cast(IPALiteBlock, self.blocks[0 if self.config.shared else recycle])
            geometry = self.config.has_geometry(recycle)
            bias, tau, eta, beta_r = self._of_recycle(recycle, inputs, fixed, weight)
            attention = block.attend(s, x, inputs, bias, tau, geometry=geometry)
            if return_terms:
                found = block.logit_terms(s, x, inputs, tau, geometry=geometry)
                terms.append(found if gate is None else found | {"gate": beta_r * _by_head(gate)})
                states.append(s)
            if return_attention:
                attentions.append(attention)
            s, x = block.move(s, x, attention, inputs, eta)
            layouts.append(x)
        return IPALiteOutput(
            torch.stack(layouts),
            torch.stack(attentions) if return_attention else None,
            terms if return_terms else None,
            torch.stack(states) if return_terms else None,
        )

    def _of_recycle(
        self, recycle: int, inputs: _Inputs, fixed: Tensor, weight: float
    ) -> tuple[Tensor, Tensor | None, Tensor | None, float | Tensor]:
        """Mask and gate as a bias, τ, η and the gate's weight of one recycle."""
        if self.schedule is None:
            return fixed, None, None, weight
        tau, beta, eta = self.schedule(recycle)
        beta = beta * (weight / self.config.beta)
        return attention_bias(inputs.graph.mask, inputs.gate, beta, fixed.dtype), tau, eta, beta


def _by_head(gate: Tensor) -> Tensor:
    return gate if gate.ndim == 4 else gate[:, None]
