"""Attention over a whole set of cells."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


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
