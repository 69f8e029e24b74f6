"""Terms that fill the holes of a layout and thin out its clumps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ipar._run import sent

if TYPE_CHECKING:
    from ipar.model.sharpening import Sharpening


class Evening:
    """The terms that even a layout out, step by step; see :class:`ipar.model.Sharpening`."""

    def __init__(self, sharpening: Sharpening, target: float, generator: torch.Generator) -> None:
        self.how, self.target, self.generator = sharpening, target, generator
        self.sixth: Tensor | None = None  # sixth neighbour of every cell in the layout, (n,)
        self.around: list[Tensor] = []  # neighbours at some places among the nearest, (n,) each

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Energy of the coordinates ``(n, 2)``; zero where they are as even as the tissue."""
        if self.sixth is None or step % self.how.search_every == 0:
            self.sixth, *self.around = self._search(x)
        cells, unit = torch.arange(len(x), device=x.device), mean_distance(len(x))
        # the floor bounds the log of coincident cells
        square = square_distances(x, cells, self.sixth) + (0.01 * unit) ** 2
        excess = (0.25 * square.log().var(correction=0) + 1e-12).sqrt() - self.target
        spread = x.new_zeros(())
        for near in self.around:
            distance = square_distances(x, cells, near).clamp_min(1e-12).sqrt()
            spread = spread + torch.relu(1 - distance / (self.how.spread_reach * unit)).square().mean()
        share = min(self.how.n_spread, len(x) - 1) / self.how.n_spread_drawn
        both = self.how.spread * share * spread + self.how.evenness_weight * excess.square()
        # not a branch, at which the host would wait for the device
        return torch.where(excess.detach() > 0, both, 0.0)

    def _search(self, x: Tensor) -> Tensor:
        """The sixth neighbour of every cell, and those at places drawn among the nearest, ``(1 + n_spread_drawn, n)``."""
        points, most = x.detach().cpu().numpy(), len(x) - 1
        drawn = torch.randint(min(self.how.n_spread, most), (self.how.n_spread_drawn,), generator=self.generator)
        # the first place is the cell itself
        places = [min(6, most) + 1, *(drawn + 2).tolist()]
        found = cKDTree(points).query(points, k=places, workers=torch.get_num_threads())[1]
        return sent(torch.from_numpy(np.ascontiguousarray(found.T, dtype=np.int64)), x.device)


def mean_distance(n: int) -> float:
    """Mean distance between neighbours of n cells on a round tissue, in RMS radii."""
    return math.sqrt(2 * math.pi / n)


def square_distances(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of pairs, ``(m,)``."""
    return (x.index_select(0, first) - x.index_select(0, second)).square().sum(-1)
