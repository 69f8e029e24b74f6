"""IPA-Lite: invariant point attention cut down to two dimensions.

Raw coordinates, no frames: a few recycles of attention over a candidate graph built from expression, each moving
every cell by a linear map of the attended displacements.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.geometry import gauge_fix, squared_distances
from ipar.nn._attention import attention_bias, masked_attention

_GEOMETRY_MIN = -10.0  # clamp of the geometry term: e^-10 is nothing, and beyond it lies saturation
_GAMMA_INIT = math.log(math.e - 1.0)  # softplus(γ) = 1


@dataclass(frozen=True)
class IPALiteConfig:
    """Shape of an :class:`IPALiteNet`.

    Attributes
    ----------
    d_input
        Width of the embedding.
    d_state
        Width of the node state (c_s).
    n_heads, d_head
        Attention heads and their width.
    n_recycles
        Passes of the weight-shared block.
    beta
        Weight of the gate on the attention logits while training.
    coord_noise
        Standard deviation, in RMS radii, of the noise on the first guess while training.
    geometry
        ``"none"``, or ``"clamped"``: −softplus(γ_h)·‖x_i − x_j‖² clamped to [−10, 0]. The weights γ exist either way,
        so that the term can be switched on for trained weights.
    """

    d_input: int = 128
    d_state: int = 96
    n_heads: int = 4
    d_head: int = 32
    n_recycles: int = 5
    beta: float = 2.0
    coord_noise: float = 0.05
    geometry: Literal["none", "clamped"] = "none"

    @classmethod
    def v1(cls, **overrides: Any) -> IPALiteConfig:
        """The default member: one block shared by five recycles, no geometry term."""
        return cls(**overrides)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class IPALiteOutput:
    """What a pass of the network gives.

    Attributes
    ----------
    layouts
        The first guess and the layout after every recycle, gauge-fixed, ``(R + 1, B, n, 2)``.
    attention
        Weights of every recycle, ``(R, B, H, n, n)``, where asked for.
    """

    layouts: Tensor
    attention: Tensor | None

    @property
    def coords(self) -> Tensor:
        """The last layout, ``(B, n, 2)``."""
        return self.layouts[-1]


class IPALiteBlock(nn.Module):
    r"""One recycle.

    .. math::
        a^h_{ij} &= \mathrm{softmax}_j\big(q_i \cdot k_j / \sqrt d + \beta g_{ij}\big) \\
        \Delta x_i &= \textstyle\sum_h \sum_j a^h_{ij} W^h_x (x_j - x_i) \\
        s_i &\leftarrow s_i + \mathrm{MLP}\big(\mathrm{LayerNorm}(s_i), \textstyle\sum_j a^h_{ij} v_j\big) \\
        X &\leftarrow \mathrm{gauge\_fix}(X + \Delta x)
    """

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__()
        self.config = config
        c, inner = config.d_state, config.n_heads * config.d_head
        self.query = nn.Linear(c, inner, bias=False)
        self.key = nn.Linear(c, inner, bias=False)
        self.value = nn.Linear(c, inner, bias=False)
        self.step = nn.Parameter(torch.zeros(config.n_heads, 2, 2))
        self.gamma = nn.Parameter(torch.full((config.n_heads,), _GAMMA_INIT))
        self.norm = nn.LayerNorm(c)
        self.update = nn.Sequential(nn.Linear(c + inner, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        for parameter in self.update[-1].parameters():
            nn.init.zeros_(parameter)

    def _heads(self, x: Tensor) -> Tensor:
        batch, n, _ = x.shape
        return x.view(batch, n, self.config.n_heads, self.config.d_head).transpose(1, 2)  # (B, H, n, d)

    def _geometry(self, x: Tensor) -> Tensor:
        strength = functional.softplus(self.gamma)[:, None, None]
        return (-strength * squared_distances(x)[:, None]).clamp_min(_GEOMETRY_MIN)

    def forward(
        self, s: Tensor, x: Tensor, bias: Tensor, has_candidate: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New states, new gauge-fixed layout and the attention weights.

        Parameters
        ----------
        s, x
            States ``(B, n, c)`` and layout ``(B, n, 2)``.
        bias, has_candidate
            Additive term of the logits ``(B, 1, n, n)`` and which cells have candidates ``(B, 1, n, 1)``.
        mask
            Which cells are real, ``(B, n)``.
        """
        query = self._heads(self.query(s)) / math.sqrt(self.config.d_head)
        if self.config.geometry == "clamped":
            bias = bias + self._geometry(x)
        attention = masked_attention(query, self._heads(self.key(s)), bias, has_candidate)
        value = self._heads(self.value(s))
        # one product serves messages and displacements; Σ_j a_ij (x_j − x_i) = Σ_j a_ij x_j − x_i, as rows sum to 1
        position = x[:, None].expand(-1, self.config.n_heads, -1, -1)
        gathered = attention @ torch.cat([value, position], dim=-1)
        pull = gathered[..., -2:] - position * has_candidate
        moved = x + torch.einsum("hab,zhnb->zna", self.step, pull)
        message = gathered[..., :-2].transpose(1, 2).flatten(2)
        s = s + self.update(torch.cat([self.norm(s), message], dim=-1))
        return s, gauge_fix(moved, mask), attention


class IPALiteNet(nn.Module):
    """Embeddings and a candidate graph in, coordinates out.

    Parameters
    ----------
    config
        Shape of the network; V1 by default.
    """

    def __init__(self, config: IPALiteConfig | None = None) -> None:
        super().__init__()
        self.config = config or IPALiteConfig.v1()
        d, c = self.config.d_input, self.config.d_state
        self.state_input = nn.Sequential(nn.Linear(d, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
        self.coord_input = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, 2))
        self.block = IPALiteBlock(self.config)

    def forward(
        self,
        h: Tensor,
        candidates: Tensor,
        gate: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        beta: float | None = None,
        return_attention: bool = False,
    ) -> IPALiteOutput:
        """Lay out sets of cells.

        Parameters
        ----------
        h
            Embeddings, ``(B, n, d_input)``.
        candidates
            Which cells each may attend to, bool ``(B, n, n)``.
        gate
            Gate scores, ``(B, n, n)``; zero, if None.
        mask
            Which cells are real, bool ``(B, n)``; all, if None.
        beta
            Weight of the gate; the config's, if None.
        return_attention
            Keep the attention weights, which take ``R·B·H·n²`` floats.

        Returns
        -------
        IPALiteOutput
            Layouts and, where asked for, attention weights.
        """
        bias = attention_bias(candidates, gate, self.config.beta if beta is None else beta, h.dtype)[:, None]
        has_candidate = candidates.any(-1)[:, None, :, None]
        s, x = self.state_input(h), self.coord_input(h)
        if self.training and self.config.coord_noise:
            x = x + self.config.coord_noise * torch.randn_like(x)
        x = gauge_fix(x, mask)
        layouts, attentions = [x], []
        for _ in range(self.config.n_recycles):
            s, x, attention = self.block(s, x, bias, has_candidate, mask)
            layouts.append(x)
            if return_attention:
                attentions.append(attention)
        return IPALiteOutput(torch.stack(layouts), torch.stack(attentions) if return_attention else None)
