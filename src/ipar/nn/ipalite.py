"""IPA-Lite: invariant point attention reduced to two dimensions, without frames.

Each recycle attends over a candidate graph from expression, and moves every cell by a linear map of the attended
displacements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ipar.geometry import gauge_fix
from ipar.nn.block import Inputs, IPALiteBlock, attention_bias, by_head
from ipar.nn.config import IPALiteConfig
from ipar.nn.draws import normal_like
from ipar.nn.gate import EdgeMLP, edge_outputs
from ipar.nn.graph import CandidateGraph, as_graph
from ipar.nn.linear import DifferencesLinear
from ipar.nn.terms import RecycleSchedule


@dataclass(frozen=True)
class IPALiteOutput:
    """Result of a pass of the network.

    Attributes
    ----------
    layouts
        The first guess and the layout after every recycle, gauge-fixed, ``(R + 1, B, n, 2)``.
    attention
        Weights of every recycle, ``(R, B, H, n, m)``, if asked for.
    terms
        Terms of the logits of every recycle, ``(B, 1 or H, n, m)`` each, if asked for. Their names are those of
        :attr:`IPALiteConfig.terms`.
    states
        Node states that every recycle read, ``(R, B, n, d_state)``, if terms were asked for.
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
    """Network from embeddings and a candidate graph to coordinates.

    Parameters
    ----------
    config
        Shape of the network (default: V1).
    """

    def __init__(self, config: IPALiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IPALiteConfig.v1()
        d, c = config.d_input, config.d_state
        self.state_input = nn.Sequential(nn.Linear(d, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        self.coord_input = nn.Sequential(nn.Linear(d, c), nn.GELU(), DifferencesLinear(c, 2))
        recycles: list[int | None] = [None] if config.shared else [*range(config.n_recycles)]
        self.blocks = nn.ModuleList(IPALiteBlock(config, recycle) for recycle in recycles)
        self.pair = EdgeMLP(d, (2 * config.d_pair,), config.d_pair) if config.pair_bias else None
        self.schedule = RecycleSchedule(config) if config.per_recycle else None

    def forward(
        self,
        embedding: Tensor,
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
        embedding
            Embeddings, ``(B, n, d_input)``.
        candidates
            Which cells each cell may attend to: bool ``(B, n, n)``, or a graph with ``m`` slots per cell.
        gate
            Gate scores, ``(B, n, m)`` or ``(B, H, n, m)`` (default: zero).
        mask
            Which cells are real, bool ``(B, n)`` (default: all).
        beta
            Weight of the gate (default: the config's). Weights per recycle are scaled in proportion.
        return_attention, return_terms
            Also return attention weights, and terms of the logits with node states. Weights, like each term, take
            ``R·B·H·n·m`` floats.
        """
        graph, weight = as_graph(candidates), self.config.beta if beta is None else beta
        pair = None if self.pair is None else edge_outputs(self.pair, embedding, graph)
        inputs = Inputs(graph, mask, gate if self.config.gate else None, pair)
        fixed = attention_bias(graph.mask, inputs.gate, weight, embedding.dtype)
        s, x = self.state_input(embedding), self._first_guess(embedding, mask)
        layouts, attentions, terms, states = [x], [], [], []
        for recycle in range(self.config.n_recycles):
            block = cast(IPALiteBlock, self.blocks[0 if self.config.shared else recycle])
            geometry = self.config.has_geometry(recycle)
            bias, tau, eta, beta_r = self._of_recycle(recycle, inputs, fixed, weight)
            attended, attention = block.attend(
                s, x, inputs, bias, tau, geometry=geometry, need_weights=return_attention
            )
            if return_terms:
                found = block.logit_terms(s, x, inputs, tau, geometry=geometry)
                terms.append(found if inputs.gate is None else found | {"gate": beta_r * by_head(inputs.gate)})
                states.append(s)
            if return_attention:
                attentions.append(attention)
            s, x = block.move(s, x, attended, inputs, eta)
            layouts.append(x)
        return IPALiteOutput(
            torch.stack(layouts),
            torch.stack(attentions) if return_attention else None,
            terms if return_terms else None,
            torch.stack(states) if return_terms else None,
        )

    def _first_guess(self, embedding: Tensor, mask: Tensor | None) -> Tensor:
        """The layout that each cell's own embedding gives, with noise in training."""
        x = self.coord_input(embedding)
        if self.training and self.config.coord_noise:
            x = x + self.config.coord_noise * normal_like(x)
        return gauge_fix(x, mask)

    def _of_recycle(
        self, recycle: int, inputs: Inputs, fixed: Tensor, weight: float
    ) -> tuple[Tensor, Tensor | None, Tensor | None, float | Tensor]:
        """Mask and gate as a bias, τ, η and the gate's weight of one recycle."""
        if self.schedule is None:
            return fixed, None, None, weight
        tau, beta, eta = self.schedule(recycle)
        beta = beta * (weight / self.config.beta)
        return attention_bias(inputs.graph.mask, inputs.gate, beta, fixed.dtype), tau, eta, beta
