"""IGA: a network that denoises poses by attention between overlapping Gaussians.

Every cell has a pose and a Gaussian. The network predicts the clean ones from corrupted ones at time t and the cells'
embeddings, which defines a flow from noise to layouts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ipar.geometry import OffsetGaussianRigid, procrustes_rotation
from ipar.nn.block import attention_bias
from ipar.nn.gate import EdgeMLP, edge_outputs
from ipar.nn.gaussian_attention import AttentionSignals, GaussianAttention, GaussianUpdateBlock
from ipar.nn.graph import CandidateGraph, as_graph
from ipar.nn.iga_config import IGAConfig, n_own_features, own_features, time_features
from ipar.nn.linear import DifferencesLinear


@dataclass(frozen=True)
class IGACondition:
    """Inputs from expression, which stay the same along a flow.

    The anchor ``(B, n, d)`` is a first guess of the layout from each cell's own embedding. It gives the flow a frame. Pair
    features of the candidates are ``(B, n, m, d_pair)``.
    """

    graph: CandidateGraph
    bias: Tensor
    state: Tensor
    anchor: Tensor
    mask: Tensor | None
    pair: Tensor | None = None


@dataclass(frozen=True)
class IGAOutput:
    """Result of a pass of the network.

    Attributes
    ----------
    rigid
        Predicted clean poses and Gaussians, ``(B, n)``.
    anchor
        First guess from the embedding alone, ``(B, n, d)``.
    signals
        Signals of attention, the worst over blocks.
    """

    rigid: OffsetGaussianRigid
    anchor: Tensor
    signals: AttentionSignals


def centre(x: Tensor, mask: Tensor | None) -> Tensor:
    """Centred points, ``(B, n, d)``; padding stays at zero."""
    if mask is None:
        return x - x.mean(-2, keepdim=True)
    weight = mask[..., None].to(x.dtype)
    return (x - (x * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp_min(1.0)) * weight


class IGABlock(nn.Module):
    """Attention, then an update of node states, poses and Gaussians."""

    def __init__(self, config: IGAConfig) -> None:
        super().__init__()
        d, c = config.n_dims, config.d_state
        n_vectors = config.n_heads + 2
        self.read = nn.Linear(n_own_features(d), c)
        self.norm = nn.LayerNorm(c)
        self.attention = GaussianAttention(config)
        message = config.n_heads * config.d_head + n_vectors * d
        self.update = nn.Sequential(nn.Linear(c + message, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        self.pose_norm = nn.LayerNorm(c)
        self.pose = GaussianUpdateBlock(config, n_vectors)

    def forward(
        self,
        s: Tensor,
        rigid: OffsetGaussianRigid,
        clean: OffsetGaussianRigid | None,
        clean_weight: Tensor | None,
        condition: IGACondition,
        update_mask: Tensor | None,
    ) -> tuple[Tensor, OffsetGaussianRigid, AttentionSignals]:
        """New states ``(B, n, c)`` and poses, and signals; attention reads clean Gaussians if they are given."""
        seen = rigid if clean is None else rigid.with_gaussian(clean, clean_weight)
        s = s + self.read(own_features(rigid, condition.anchor))
        message, vectors, signals = self.attention(self.norm(s), seen, condition.graph, condition.bias, condition.pair)
        own = torch.stack([condition.anchor - rigid.translation, rigid.translation], dim=-2)
        vectors = torch.cat([vectors, own], dim=-2)  # (B, n, H + 2, d)
        s = s + self.update(torch.cat([self.norm(s), message, vectors.flatten(2)], dim=-1))
        return s, self.pose(self.pose_norm(s), rigid, vectors, update_mask), signals


class IGANet(nn.Module):
    """Network from embeddings, candidates, corrupted poses and a time to clean poses.

    The corrupted layout is rotated or reflected onto a first guess from the embeddings, denoised in that frame, and turned
    back. The output therefore has the rotation and reflection of the input.

    Parameters
    ----------
    config
        Shape of the network.
    """

    def __init__(self, config: IGAConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IGAConfig()
        d, c = config.d_input, config.d_state
        self.anchor = nn.Sequential(nn.Linear(d, 2 * c), nn.GELU(), DifferencesLinear(2 * c, config.n_dims))
        self.state_input = nn.Sequential(nn.Linear(d, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        self.time_input = nn.Sequential(nn.Linear(2 * config.n_frequencies, c), nn.GELU(), nn.Linear(c, c))
        self.blocks = nn.ModuleList(IGABlock(config) for _ in range(config.n_blocks))
        self.pair = EdgeMLP(d, (2 * config.d_pair,), config.d_pair) if config.pair_bias else None

    def condition(
        self,
        embedding: Tensor,
        candidates: Tensor | CandidateGraph,
        gate: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        beta: float | None = None,
    ) -> IGACondition:
        """Prepare the inputs from expression, which a whole flow shares.

        Parameters
        ----------
        embedding
            Embeddings, ``(B, n, d_input)``.
        candidates
            Which cells each cell may attend to: bool ``(B, n, n)``, or a graph with ``m`` slots per cell.
        gate
            Gate scores, ``(B, n, m)`` (default: zero).
        mask
            Which cells are real, bool ``(B, n)`` (default: all).
        beta
            Weight of the gate (default: the config's).
        """
        graph = as_graph(candidates)
        bias = attention_bias(graph.mask, gate, self.config.beta if beta is None else beta, embedding.dtype)
        pair = None if self.pair is None else edge_outputs(self.pair, embedding, graph)
        return IGACondition(graph, bias, self.state_input(embedding), centre(self.anchor(embedding), mask), mask, pair)

    def denoise(
        self,
        condition: IGACondition,
        rigid: OffsetGaussianRigid,
        time: Tensor,
        *,
        clean: OffsetGaussianRigid | None = None,
        clean_weight: Tensor | None = None,
        diffuse_mask: Tensor | None = None,
    ) -> IGAOutput:
        """Predict clean poses from corrupted ones.

        Parameters
        ----------
        condition
            From :meth:`condition`.
        rigid
            Corrupted poses at ``time``, ``(B, n)``.
        time
            Time, from 0 (noise) to 1 (clean), ``(B,)``.
        clean
            True Gaussians for attention to read, in the same axes as the corrupted poses (default: the denoised ones).
        clean_weight
            Share of the true Gaussians, ``(B,)`` (default: 1).
        diffuse_mask
            Which cells are corrupted, bool ``(B, n)`` (default: all). The others stay where they are.
        """
        mask = condition.mask
        turn = self._frame(condition.anchor, centre(rigid.translation, mask))
        shift = rigid.translation - centre(rigid.translation, mask)
        current = rigid.move(turn[:, None], -(turn[:, None] @ shift[..., None]).squeeze(-1))
        shown = None if clean is None else clean.move(turn[:, None])
        weight = None if clean_weight is None else clean_weight[:, None]
        update_mask = mask if diffuse_mask is None else diffuse_mask if mask is None else mask & diffuse_mask
        s = condition.state + self.time_input(time_features(time, self.config.n_frequencies))[:, None]
        signals = []
        for block in self.blocks:
            s, current, found = block(s, current, shown, weight, condition, update_mask)
            signals.append(found)
        back = turn.mT[:, None]
        return IGAOutput(current.move(back, shift), condition.anchor, _worst(signals))

    def forward(
        self,
        embedding: Tensor,
        candidates: Tensor | CandidateGraph,
        rigid: OffsetGaussianRigid,
        time: Tensor,
        gate: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        beta: float | None = None,
        clean: OffsetGaussianRigid | None = None,
        clean_weight: Tensor | None = None,
        diffuse_mask: Tensor | None = None,
    ) -> IGAOutput:
        """Prepare the inputs and denoise: see :meth:`condition` and :meth:`denoise`."""
        condition = self.condition(embedding, candidates, gate, mask=mask, beta=beta)
        return self.denoise(condition, rigid, time, clean=clean, clean_weight=clean_weight, diffuse_mask=diffuse_mask)

    @torch.no_grad()
    def _frame(self, anchor: Tensor, x: Tensor) -> Tensor:
        """Rotation or reflection ``(B, d, d)`` of layouts onto their anchors, without gradient."""
        return procrustes_rotation(x, anchor).mT


def _worst(signals: list[AttentionSignals]) -> AttentionSignals:
    largest = torch.stack([one.geo_scaled_absmax for one in signals]).amax()
    saturated = torch.stack([one.wmax_sat_frac for one in signals]).amax()
    return AttentionSignals(largest, saturated, torch.stack([one.log_det_min for one in signals]).amin())
