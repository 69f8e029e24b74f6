"""Minisets of the slides of an AnnData, for measurements of a fitted model."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._anndata import Keys, get_coords
from ipar._expression import Cells
from ipar._options import Checked, Count, Sizes
from ipar._run import Device, get_device
from ipar._slide_checks import SlideChecks
from ipar.model import IPALite
from ipar.tl._cells import known_ipalite
from ipar.training.diagnostics import ProbeSet, probe_set
from ipar.training.minisets import Miniset, draw_cells, sample_minisets

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Draw(Checked):
    """Which minisets are drawn of every slide: number, smallest and largest size (None: as in training), and seed."""

    n_minisets: Count
    size: Sizes | None
    random_state: int

    def size_for(self, model: IPALite) -> tuple[int, int]:
        """Sizes of minisets; a model keeps the largest and the mean of its training."""
        plan = model.network.plan
        return self.size or (max(plan.direct_max // 4, 1), plan.direct_max)


@dataclass(frozen=True)
class HeldOut:
    """A model on its device, and embedding and coordinates, if known, of the slides that it is measured on, by name."""

    model: IPALite
    draw: Draw
    embeddings: dict[str, Tensor]
    coords: dict[str, Tensor] | None

    def minisets(self, slide: str) -> list[Miniset]:
        """Random minisets of a slide with their targets."""
        if self.coords is None:  # pragma: no cover - read_held_out was asked for coordinates
            raise RuntimeError
        return sample_minisets(
            [self.embeddings[slide]],
            [self.coords[slide]],
            self.draw.n_minisets,
            size=self.draw.size_for(self.model),
            n_neighbors=self.model.network.n_neighbors,
            random_state=self.draw.random_state,
        )

    def probes(self, slide: str) -> list[ProbeSet]:
        """The same subsets with true neighbours instead of targets, if coordinates are known."""
        h, x = self.embeddings[slide], None if self.coords is None else self.coords[slide]
        drawn = draw_cells([len(h)], self.draw.n_minisets, self.draw.size_for(self.model), self.draw.random_state)
        k = self.model.network.n_neighbors
        return [probe_set(h[cells], None if x is None else x[cells], k) for _, cells in drawn]


def read_held_out(
    adata: AnnData,
    model: IPALite | None,
    draw: Draw,
    *,
    library_key: str | None,
    spatial_key: str | None,
    layer: str | None,
    device: Device,
) -> HeldOut:
    """Embed the slides of an AnnData, and read their coordinates if `spatial_key` is given."""
    model, keys = known_ipalite(adata, model, Keys(library_key, layer))
    cells = Cells.read(adata, model, keys)
    coords = None
    if spatial_key is not None:
        coords = get_coords(adata, spatial_key)
        SlideChecks().check_positions(coords, cells.labels)
    model = copy.deepcopy(model)  # the caller's stays on its own device
    for module in model.modules:
        module.to(get_device(device))
    embedding = model.features(*cells.arrays).embedding

    def by_slide(values: NDArray[np.float32]) -> dict[str, Tensor]:
        return {str(name): torch.from_numpy(values[cells.labels == name]) for name in cells.labels.categories}

    return HeldOut(model, draw, by_slide(embedding), None if coords is None else by_slide(coords))
