"""IPA-Lite: invariant point attention cut down to two dimensions.

Raw coordinates, no frames: a few recycles of attention over a candidate graph built from expression, each moving
every cell by a linear map of the attended displacements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ipar.geometry import gauge_fix
from ipar.nn.block import PAIR_OUTPUT, Inputs, IPALiteBlock, attention_bias
from ipar.nn.config import IPALiteConfig
from ipar.nn.gate import EdgeMLP, edge_outputs
from ipar.nn.graph import CandidateGraph, as_graph
from ipar.nn.terms import RecycleSchedule

_PAIR_HIDDEN = 64


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
        self.pair = EdgeMLP(d, (_PAIR_HIDDEN,), PAIR_OUTPUT) if config.pair_bias else None
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
        inputs = Inputs(graph, mask, gate, pair)
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
        self, recycle: int, inputs: Inputs, fixed: Tensor, weight: float
    ) -> tuple[Tensor, Tensor | None, Tensor | None, float | Tensor]:
        """Mask and gate as a bias, τ, η and the gate's weight of one recycle."""
        if self.schedule is None:
            return fixed, None, None, weight
        tau, beta, eta = self.schedule(recycle)
        beta = beta * (weight / self.config.beta)
        return attention_bias(inputs.graph.mask, inputs.gate, beta, fixed.dtype), tau, eta, beta


def _by_head(gate: Tensor) -> Tensor:
    return gate if gate.ndim == 4 else gate[:, None]
