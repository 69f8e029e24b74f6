"""The expression encoder shared by all slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class InputDropout(nn.Module):
    """Dropout for wide inputs: eight mask entries from one random integer, a fifth of the time of ``nn.Dropout``.

    Drawing one random number a gene and cell would take a third of a training step. The share dropped is rounded to
    1/256.

    Parameters
    ----------
    p
        Share of entries set to zero in training; the others are scaled by ``1 / (1 - p)``.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of a tensor of any shape."""
        if not self.training or self.threshold == 0:
            return x
        draws = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device)
        kept = (draws.view(torch.uint8)[: x.numel()] >= self.threshold).view(x.shape)
        return x * kept * (256 / (256 - self.threshold))


class SharedEncoder(nn.Module):
    """Multilayer perceptron from expression (or its principal components) to the embedding.

    Parameters
    ----------
    n_input
        Input features: genes, or principal components.
    hidden
        Widths of the hidden layers; ``(512, 256)`` for genes.
    n_output
        Width of the embedding.
    input_dropout, dropout
        Share of input features and of hidden units dropped in training. Expression has far more genes than spots,
        and a slide's noise is its own: without heavy dropout the embedding memorises slides.

    References
    ----------
    n_genes → 512 → 256 → 128 is the encoder of the IPA-Lite design.
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
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], n_output))

    @property
    def shape(self) -> dict[str, Any]:
        """Arguments that make a network of this shape, as JSON holds them."""
        return {"n_input": self.n_input, "hidden": list(self.hidden), "n_output": self.n_output}

    def forward(self, x: Tensor) -> Tensor:
        """Embed ``(n, n_input)`` as ``(n, n_output)``."""
        out: Tensor = self.net(x)
        return out


class _SetLayer(nn.Module):
    """Pre-norm attention and a feed-forward part twice as wide."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_update = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)
        self.update = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def _heads(self, x: Tensor) -> Tensor:
        batch, n, width = x.shape
        return x.view(batch, n, self.n_heads, width // self.n_heads).transpose(1, 2)  # (B, H, n, d)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        normed = self.norm(x)
        key, value = self.key_value(normed if context is None else normed[:, context]).chunk(2, dim=-1)
        # no dropout of attention weights: it would take the fused kernel, and most of the speed, away
        found = functional.scaled_dot_product_attention(
            self._heads(self.query(normed)), self._heads(key), self._heads(value)
        )
        x = x + self.merge(found.transpose(1, 2).flatten(2))
        updated: Tensor = x + self.update(self.norm_update(x))
        return updated


class SetEncoder(nn.Module):
    """Embedding of every cell in view of all others of its set.

    Parameters
    ----------
    n_input
        Features a cell.
    width, n_layers, n_heads, n_output
        Of the network: two layers generalise to slides left out as well as four.
    dropout
        Of hidden units in training.

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
        self.n_input, self.width, self.n_layers, self.n_heads, self.n_output = (
            n_input,
            width,
            n_layers,
            n_heads,
            n_output,
        )
        self.read = nn.Linear(n_input, width)
        self.layers = nn.ModuleList(_SetLayer(width, n_heads, dropout) for _ in range(n_layers))
        self.write = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_output))

    @property
    def shape(self) -> dict[str, int]:
        """Arguments that make a network of this shape, but for its dropout."""
        return {name: getattr(self, name) for name in ("n_input", "width", "n_layers", "n_heads", "n_output")}

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Embed sets ``(B, n, n_input)`` as ``(B, n, n_output)``.

        Parameters
        ----------
        x
            The sets.
        context
            Indices of the cells that all attend to, ``(m,)``; all, if None. Time and memory grow with n·m.
        """
        x = self.read(x)
        for layer in self.layers:
            x = layer(x, context)
        out: Tensor = self.write(x)
        return out
