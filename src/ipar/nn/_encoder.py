"""The expression encoder shared by all slides."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


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
        layers: list[nn.Module] = [nn.Dropout(input_dropout)]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], n_output))

    def forward(self, x: Tensor) -> Tensor:
        """Embed ``(n, n_input)`` as ``(n, n_output)``."""
        out: Tensor = self.net(x)
        return out
