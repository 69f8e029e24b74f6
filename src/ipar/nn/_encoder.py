"""The expression encoder shared by all slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


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
