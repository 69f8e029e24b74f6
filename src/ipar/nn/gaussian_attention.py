"""Attention between cells by the overlap of their Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.overlap import gaussian_overlap, pack_symmetric
from ipar.geometry.rotation import n_angles, rotation_exp
from ipar.nn.block import attend, split_heads
from ipar.nn.graph import CandidateGraph
from ipar.nn.iga_config import IGAConfig


@dataclass(frozen=True)
class AttentionSignals:
    """Signals of whether geometry overwhelms attention, one number each.

    Attributes
    ----------
    geo_scaled_absmax
        Largest absolute geometry term of a logit, over all candidates. It is that of the two that lie farthest apart for the
        width of their Gaussians. A term of −30 only says that this candidate is not attended to, so that values of 30 to 40
        are usual: read it beside the share of saturated rows.
    wmax_sat_frac
        Share of rows with a weight above 0.99: near 1, geometry leaves one candidate per cell.
    log_det_min
        Smallest log-determinant of a sum of covariances, limited to −20.
    """

    geo_scaled_absmax: Tensor
    wmax_sat_frac: Tensor
    log_det_min: Tensor


class GaussianAttention(nn.Module):
    r"""One attention over candidates.

    .. math:: a^h_{ij} = \mathrm{softmax}_j\big(q_i \cdot k_j / \sqrt d + \beta g_{ij}
              - \tfrac12 \mathrm{softplus}(w_h)\, E_{ij} \;[+\, W_h z_{ij}]\big)

    with :math:`E_{ij}` from :func:`ipar.geometry.overlap.gaussian_overlap` and, with ``pair_bias``, an edge representation
    :math:`z_{ij}`. Weights do not change when the whole layout is
    rotated, reflected or shifted.
    """

    def __init__(self, config: IGAConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_heads * config.d_head
        self.query, self.key, self.value = (nn.Linear(config.d_state, width, bias=False) for _ in range(3))
        self.weight = nn.Parameter(torch.full((config.n_heads,), -4.0))  # softplus(−4) = 0.018: geometry starts weak
        self.pair = nn.Linear(config.d_pair, config.n_heads, bias=False) if config.pair_bias else None

    def overlap_term(self, rigid: OffsetGaussianRigid, graph: CandidateGraph) -> tuple[Tensor, Tensor, Tensor]:
        """Geometry term of the logits ``(B, H, n, m)``, log-determinants ``(B, n, m)`` and means ``(B, n, d)``."""
        mean, covariance = rigid.to_global(scale_min=self.config.scale_min, scale_max=self.config.scale_max)
        both = torch.cat([mean, pack_symmetric(covariance)], dim=-1)
        own, other = both[:, :, None], graph.targets(both)
        d = self.config.n_dims
        energy, log_det = gaussian_overlap(own[..., :d] - other[..., :d], own[..., d:] + other[..., d:])
        strength = self.config.overlap_scale * functional.softplus(self.weight)[:, None, None]
        return -strength * energy[:, None], log_det, mean

    def forward(
        self, s: Tensor, rigid: OffsetGaussianRigid, graph: CandidateGraph, bias: Tensor, pair: Tensor | None = None
    ) -> tuple[Tensor, Tensor, AttentionSignals]:
        """Attended values ``(B, n, H·d_head)``, attended means relative to the cell ``(B, n, H, d)``, and signals.

        The edge representation is ``(B, n, m, d_pair)``.
        """
        term, log_det, mean = self.overlap_term(rigid, graph)
        if self.pair is not None and pair is not None:
            bias = bias + self.pair(pair).permute(0, 3, 1, 2)
        query, key, value = (split_heads(f(s), self.config.n_heads) for f in (self.query, self.key, self.value))
        places = mean[:, None].expand(-1, self.config.n_heads, -1, -1)
        both = torch.cat([value, places], dim=-1)
        gathered, weights = attend(query / math.sqrt(self.config.d_head), key, bias + term, graph, both)
        message, attended = torch.split(gathered, [self.config.d_head, self.config.n_dims], dim=-1)
        # a cell without candidates attends to nothing, not to the origin
        seen = graph.filled[:, :, None, None]
        vectors = (attended.transpose(1, 2) - rigid.translation[:, :, None]) * seen
        return message.transpose(1, 2).flatten(2), vectors, _signals(term, log_det, weights, graph.mask)


@torch.no_grad()
def _signals(term: Tensor, log_det: Tensor, weights: Tensor, mask: Tensor) -> AttentionSignals:
    """Signals of a pass; of the weights, the largest of each row are enough."""
    rows = mask.any(-1)[:, None].expand(weights.shape[:-1])
    saturated = (weights.amax(-1) > 0.99) & rows if weights.shape[-1] else torch.zeros_like(rows)
    absmax = (term.abs() * mask[:, None]).amax() if term.numel() else term.new_zeros(())
    lowest = log_det.masked_fill(~mask, float("inf")).amin() if log_det.numel() else log_det.new_zeros(())
    return AttentionSignals(absmax, saturated.sum() / rows.sum().clamp_min(1), lowest)


class GaussianUpdateBlock(nn.Module):
    """Update of rotation, translation, local mean and log-scale from node states.

    Turns and shifts are in the frame of the layout, since the axes of an ellipsoid have no sign and give no direction.
    Every weight starts at zero, which leaves poses unchanged.
    """

    def __init__(self, config: IGAConfig, n_vectors: int) -> None:
        super().__init__()
        self.config = config
        d = config.n_dims
        self.sizes = [n_angles(d), d, d, d, n_vectors]
        self.linear = nn.Linear(config.d_state, sum(self.sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, s: Tensor, rigid: OffsetGaussianRigid, vectors: Tensor, update_mask: Tensor | None = None
    ) -> OffsetGaussianRigid:
        """Poses ``(B, n)`` after the update, moved along vectors ``(B, n, V, d)``; cells outside the mask stay."""
        out = self.linear(s)
        if update_mask is not None:
            out = out * update_mask[..., None]
        turn, shift, offset, scaling, share = torch.split(out, self.sizes, dim=-1)
        moved = OffsetGaussianRigid(
            rotation_exp(turn) @ rigid.rotation,
            rigid.translation + shift + (share[..., None] * vectors).sum(-2),
            rigid.scaling_log,
            rigid.local_mean,
        )
        if not self.config.corrupt_gaussians:
            return moved
        units = self.config.units
        local = (rigid.rotation.mT @ offset[..., None]).squeeze(-1)
        return OffsetGaussianRigid(
            moved.rotation,
            moved.translation,
            rigid.scaling_log + units.scaling_spread * scaling,
            rigid.local_mean + units.offset * local,
        )
