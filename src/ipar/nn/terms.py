"""Terms of the attention logits that look at the layout or at pairs, and what changes from recycle to recycle."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.nn.config import IPALiteConfig
from ipar.nn.graph import CandidateGraph

_LOWEST = -10.0  # e^-10 is nothing, and beyond it lies saturation
_GAMMA_INIT = math.log(math.e - 1.0)  # softplus(γ) = 1
_N_CENTRES, _CENTRE_MAX, _RBF_MAX = 16, 2.0, 5.0
_TAU, _BETA = (1.0, 10.0), (0.0, 2.5)
_BETA_INIT, _ETA_INIT = (0.5, 1.5, 2.0), 0.2


class DistanceTerm(nn.Module):
    r"""−softplus(γ_h)·‖x_i − x_j‖², clamped to [−10, 0] or not."""

    def __init__(self, config: IPALiteConfig, *, clamp: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((config.n_heads,), _GAMMA_INIT))
        self.clamp = clamp

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        strength = functional.softplus(self.gamma)[:, None, None]
        term = -strength * graph.distance2(x[:, None], x[:, None])
        return term.clamp_min(_LOWEST) if self.clamp else term


class RBFTerm(nn.Module):
    r"""Σ_c w_hc exp(−(d̄_ij − μ_c)²/2ω²), d̄ the distance over the median distance of candidates, clipped to ±5."""

    centres: Tensor

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.n_heads, _N_CENTRES))
        self.register_buffer("centres", torch.linspace(0, _CENTRE_MAX, _N_CENTRES), persistent=False)

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        # the floor keeps the gradient of the root finite for coincident cells
        distance = graph.distance2(x[:, None], x[:, None])[:, 0].clamp_min(1e-12).sqrt()
        known = distance.detach().masked_fill(~graph.mask, float("nan")).flatten(1)
        # a set without candidates has no median, one without slots not even an empty row of them
        scale = (
            functional.pad(known, (0, 1), value=float("nan")).nanmedian(dim=1).values.nan_to_num(1.0).clamp_min(1e-6)
        )
        width = _CENTRE_MAX / (_N_CENTRES - 1)
        basis = (-((distance / scale[:, None, None])[..., None] - self.centres).square() / (2 * width**2)).exp()
        return (basis @ self.weight.T).permute(0, 3, 1, 2).clamp(-_RBF_MAX, _RBF_MAX)


class PointTerm(nn.Module):
    r"""clip(−‖(x_i + W_Q s_i) − (x_j + W_K s_j)‖²/σ_h², −10, 0); offsets start at zero."""

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query_offset = nn.Linear(config.d_state, 2 * config.n_heads, bias=False)
        self.key_offset = nn.Linear(config.d_state, 2 * config.n_heads, bias=False)
        for layer in (self.query_offset, self.key_offset):
            nn.init.zeros_(layer.weight)
        self.log_sigma = nn.Parameter(torch.zeros(config.n_heads))

    def offsets(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets u_i and v_j in RMS radii, ``(B, H, n, 2)`` each; norms far above 1 are a warning sign."""
        both = (layer(s).unflatten(-1, (self.n_heads, 2)) for layer in (self.query_offset, self.key_offset))
        u, v = (offset.transpose(1, 2) for offset in both)
        return u, v

    def forward(self, s: Tensor, x: Tensor, graph: CandidateGraph) -> Tensor:
        """Term of the logits, ``(B, H, n, m)``."""
        u, v = self.offsets(s)
        distance2 = graph.distance2(x[:, None] + u, x[:, None] + v)
        return (-distance2 * (-2 * self.log_sigma).exp()[:, None, None]).clamp_min(_LOWEST)


def geometry_term(config: IPALiteConfig) -> nn.Module:
    """The term of a config; γ of the clamped one where it has none."""
    if config.geometry == "rbf":
        return RBFTerm(config)
    if config.geometry == "point":
        return PointTerm(config)
    return DistanceTerm(config, clamp=config.geometry != "monotone")


class RecycleSchedule(nn.Module):
    """Scale τ_r in [1, 10], gate weight β_r in [0, 2.5] and step gate η_r = σ(θ_r) of every recycle."""

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__()
        r = config.n_recycles
        inits = np.interp(np.linspace(0, 1, r), np.linspace(0, 1, len(_BETA_INIT)), _BETA_INIT)
        self.tau = nn.Parameter(torch.full((r,), math.sqrt(config.d_head)))
        self.beta = nn.Parameter(torch.tensor(inits, dtype=torch.float32))
        self.theta = nn.Parameter(torch.full((r,), math.log(_ETA_INIT / (1 - _ETA_INIT))))

    def forward(self, recycle: int) -> tuple[Tensor, Tensor, Tensor]:
        """τ, β and η of a recycle."""
        return self.tau[recycle].clamp(*_TAU), self.beta[recycle].clamp(*_BETA), self.theta[recycle].sigmoid()
