"""Random numbers of batches of which a process may read a part: drawn for the whole batch, so that they do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar._ranks import current_part


def drawn(draw: Callable[[tuple[int, ...]], Tensor], shape: Sequence[int]) -> Tensor:
    """The own rows of what ``draw`` gives for the shape of the whole batch; ``shape`` is that of the own rows."""
    part = current_part()
    return draw(tuple(shape)) if part is None else draw((part.total, *shape[1:]))[part.rows]


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape of a batch."""
    return drawn(lambda shape: torch.randn(shape, dtype=x.dtype, device=x.device), x.shape)


class Dropout(nn.Module):
    """Dropout of entries of a batch."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of a tensor of any shape, in training."""
        if not self.training or self.p == 0:
            return x
        if current_part() is None:
            return functional.dropout(x, self.p)
        return x * drawn(lambda shape: functional.dropout(x.new_ones(shape), self.p), x.shape)
