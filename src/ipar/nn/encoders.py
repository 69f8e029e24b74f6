"""Networks from expression to the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.nn.block import split_heads
from ipar.nn.draws import Dropout, drawn
from ipar.nn.linear import DifferencesLinear


class InputDropout(nn.Module):
    """Dropout five times as fast as ``nn.Dropout``: one random integer gives eight mask entries, in steps of 1/256."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of a tensor of any shape."""
        if not self.training or self.threshold == 0:
            return x

        def kept(shape: tuple[int, ...]) -> Tensor:
            n = math.prod(shape)
            draws = torch.randint(-(2**63), 2**63 - 1, (-(-n // 8),), device=x.device)
            return (draws.view(torch.uint8)[:n] >= self.threshold).view(shape)

        return x * drawn(kept, x.shape) * (256 / (256 - self.threshold))


class SharedEncoder(nn.Module):
    """Multilayer perceptron from expression (or its principal components) to the embedding.

    Parameters
    ----------
    n_input
        Input features: genes, or principal components.
    hidden
        Widths of the hidden layers.
    n_output
        Width of the embedding.
    input_dropout, dropout
        Share of input features and of hidden units dropped in training.

    Notes
    -----
    There are far more genes than spots, and each slide has noise of its own. Without heavy dropout, the embedding memorises
    slides.
    """

    def __init__(
        self,
        n_input: int,
        *,
        hidden: Sequence[int] = (512, 256),
        n_output: int = 128,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_input, self.hidden, self.n_output = n_input, tuple(hidden), n_output
        widths = [n_input, *hidden]
        layers: list[nn.Module] = [InputDropout(input_dropout)]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.GELU(), Dropout(dropout)]
        self.net = nn.Sequential(*layers, DifferencesLinear(widths[-1], n_output))

    @property
    def shape(self) -> dict[str, Any]:
        """Arguments that make a network of this shape, as plain values."""
        return {"n_input": self.n_input, "hidden": list(self.hidden), "n_output": self.n_output}

    def forward(self, x: Tensor) -> Tensor:
        """Embed ``(n, n_input)`` as ``(n, n_output)``."""
        out: Tensor = self.net(x)
        return out


class _SetLayer(nn.Module):
    """Pre-norm attention, then a feed-forward network twice as wide."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_update = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)
        self.update = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        normed = self.norm(x)
        seen, width = normed if context is None else normed[:, context], normed.shape[-1]
        # attention does not change with the bias of keys, which therefore has no gradient (see DifferencesLinear)
        bias = torch.cat([self.key_value.bias[:width].detach(), self.key_value.bias[width:]])
        key, value = functional.linear(seen, self.key_value.weight, bias).chunk(2, dim=-1)
        # no dropout of attention weights: it would rule out the fused kernel
        query, key, value = (split_heads(part, self.n_heads) for part in (self.query(normed), key, value))
        found = self._attend(query, key, value)
        x = x + self.merge(found.transpose(1, 2).flatten(2))
        updated: Tensor = x + self.update(self.norm_update(x))
        return updated

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # the gradient of the fused kernel takes twice as long on a CPU
            weights: Tensor = (query / query.shape[-1] ** 0.5 @ key.mT).softmax(-1)
            return weights @ value
        return functional.scaled_dot_product_attention(query, key, value)


class SetEncoder(nn.Module):
    """Transformer that embeds every cell in view of all other cells of its set.

    Parameters
    ----------
    n_input
        Features per cell.
    width, n_layers, n_heads
        Shape of the network. Two layers generalise to held-out slides as well as four.
    n_output
        Width of the embedding.
    dropout
        Share of hidden units dropped in training.

    References
    ----------
    Lee et al., Set Transformer, ICML 2019.
    """

    def __init__(
        self,
        n_input: int,
        *,
        width: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        n_output: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_input, self.n_output = n_input, n_output
        self.width, self.n_layers, self.n_heads = width, n_layers, n_heads
        self.read = nn.Linear(n_input, width)
        self.layers = nn.ModuleList(_SetLayer(width, n_heads, dropout) for _ in range(n_layers))
        self.write = nn.Sequential(nn.LayerNorm(width), DifferencesLinear(width, n_output))
        self.write[0].bias.requires_grad_(False)  # which shifts all cells alike, too

    @property
    def shape(self) -> dict[str, int]:
        """Arguments that make a network of this shape, without its dropout."""
        return {name: getattr(self, name) for name in ("n_input", "width", "n_layers", "n_heads", "n_output")}

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Embed sets ``(B, n, n_input)`` as ``(B, n, n_output)``.

        Parameters
        ----------
        x
            The sets.
        context
            Indices of the cells that all cells attend to, ``(m,)`` (default: all). Time and memory grow with n·m.
        """
        x = self.read(x)
        for layer in self.layers:
            x = layer(x, context)
        out: Tensor = self.write(x)
        return out
