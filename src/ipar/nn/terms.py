"""Terms of the attention logits that read the layout, and weights that change from recycle to recycle."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.nn.config import IPALiteConfig
from ipar.nn.graph import CandidateGraph


class DistanceTerm(nn.Module):
    r"""−softplus(γ_h)·‖x_i − x_j‖², by default at least −10, beyond which attention saturates."""

    def __init__(self, config: IPALiteConfig, *, lowest: float | None = -10.0) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((config.n_heads,), math.log(math.e - 1.0)))  # softplus(γ) = 1
        self.lowest = lowest

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        strength = functional.softplus(self.gamma)[:, None, None]
        term = -strength * graph.distance2(x[:, None], x[:, None])
        return term if self.lowest is None else term.clamp_min(self.lowest)


class RBFTerm(nn.Module):
    r"""Σ_c w_hc exp(−(d̄_ij − μ_c)²/2ω²), clipped, with d̄ the distance over the median distance of candidates."""

    def __init__(self, config: IPALiteConfig, n_centres: int = 16, furthest: float = 2.0, clip: float = 5.0) -> None:
        super().__init__()
        self.n_centres, self.furthest, self.clip = n_centres, furthest, clip
        self.weight = nn.Parameter(torch.zeros(config.n_heads, n_centres))

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        # the minimum keeps the gradient of the root finite for cells in one place
        distance = graph.distance2(x[:, None], x[:, None])[:, 0].clamp_min(1e-12).sqrt()
        known = distance.detach().masked_fill(~graph.mask, float("nan")).flatten(1)
        # a set without candidates has no median; one without slots needs a column to take it of
        scale = (
            functional.pad(known, (0, 1), value=float("nan")).nanmedian(dim=1).values.nan_to_num(1.0).clamp_min(1e-6)
        )
        centres = torch.linspace(0, self.furthest, self.n_centres, dtype=x.dtype, device=x.device)
        width = self.furthest / (self.n_centres - 1)
        basis = (-((distance / scale[:, None, None])[..., None] - centres).square() / (2 * width**2)).exp()
        return (basis @ self.weight.T).permute(0, 3, 1, 2).clamp(-self.clip, self.clip)


class PointTerm(nn.Module):
    r"""clip(−‖(x_i + W_Q s_i) − (x_j + W_K s_j)‖²/σ_h², −10, 0); offsets start at zero."""

    def __init__(self, config: IPALiteConfig, *, lowest: float = -10.0) -> None:
        super().__init__()
        self.n_heads, self.lowest = config.n_heads, lowest
        self.query_offset = nn.Linear(config.d_state, 2 * config.n_heads, bias=False)
        self.key_offset = nn.Linear(config.d_state, 2 * config.n_heads, bias=False)
        for layer in (self.query_offset, self.key_offset):
            nn.init.zeros_(layer.weight)
        self.log_sigma = nn.Parameter(torch.zeros(config.n_heads))

    def offsets(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets u_i and v_j in RMS radii, ``(B, H, n, 2)`` each. Norms far above 1 are a warning sign."""
        both = (layer(s).unflatten(-1, (self.n_heads, 2)) for layer in (self.query_offset, self.key_offset))
        u, v = (offset.transpose(1, 2) for offset in both)
        return u, v

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        u, v = self.offsets(s)
        distance2 = graph.distance2(x[:, None] + u, x[:, None] + v)
        return (-distance2 * (-2 * self.log_sigma).exp()[:, None, None]).clamp_min(self.lowest)


def geometry_term(config: IPALiteConfig) -> nn.Module:
    """The geometry term of a config; a config without one has the weights of the clamped term."""
    if config.geometry == "rbf":
        return RBFTerm(config)
    if config.geometry == "point":
        return PointTerm(config)
    return DistanceTerm(config, lowest=None) if config.geometry == "monotone" else DistanceTerm(config)


class RecycleSchedule(nn.Module):
    """Scale τ_r in [1, 10], gate weight β_r in [0, 2.5] and step gate η_r = σ(θ_r) of every recycle."""

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__()
        r = config.n_recycles
        beta = np.interp(np.linspace(0, 1, r), [0.0, 0.5, 1.0], [0.5, 1.5, 2.0])
        self.tau = nn.Parameter(torch.full((r,), math.sqrt(config.d_head)))
        self.beta = nn.Parameter(torch.tensor(beta, dtype=torch.float32))
        self.theta = nn.Parameter(torch.full((r,), math.log(0.2 / (1 - 0.2))))  # η = 0.2

    def forward(self, recycle: int) -> tuple[Tensor, Tensor, Tensor]:
        """τ, β and η of a recycle."""
        return self.tau[recycle].clamp(1.0, 10.0), self.beta[recycle].clamp(0.0, 2.5), self.theta[recycle].sigmoid()
