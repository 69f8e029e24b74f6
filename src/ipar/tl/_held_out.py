"""Minisets of the slides of an AnnData, for looking at a fitted model."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._anndata import EMBED_RECORD, check_distinct, get_coords, get_slides
from ipar._expression import get_expression
from ipar._run import get_device
from ipar.model import IPALite
from ipar.tl._stored import stored_ipalite
from ipar.training.diagnostics import ProbeSet, probe_set
from ipar.training.minisets import Miniset, draw_cells, sample_minisets

if TYPE_CHECKING:
    from anndata import AnnData

N_MINISETS = 12
"""Per slide: as many as training judges its epochs by; the mean energy of a slide is then good to a few percent."""


@dataclass(frozen=True)
class Draw:
    """Which minisets are drawn of every slide.

    Attributes
    ----------
    n_minisets
        How many of each.
    size
        Smallest and largest; that of the model's training, if None.
    random_state
        Seed.
    """

    n_minisets: int
    size: tuple[int, int] | None
    random_state: int

    def __post_init__(self) -> None:
        if self.n_minisets < 1:
            msg = f"n_minisets must be at least 1, found {self.n_minisets}."
            raise ValueError(msg)

    def size_for(self, model: IPALite) -> tuple[int, int]:
        """Sizes; a model keeps the largest and the mean of its training."""
        plan = model.network.plan
        return self.size or (max(2 * plan.subset_size - plan.direct_max, 1), plan.direct_max)


@dataclass(frozen=True)
class HeldOut:
    """A model on its device, and the slides that it is looked at on.

    Attributes
    ----------
    model
        The model.
    embeddings
        Of every slide by name, ``(n_s, d)``.
    coords
        Of every slide, ``(n_s, 2)``; None where there are none.
    """

    model: IPALite
    embeddings: dict[str, Tensor]
    coords: dict[str, Tensor] | None

    def minisets(self, slide: str, draw: Draw) -> list[Miniset]:
        """Random minisets of a slide with their targets."""
        if self.coords is None:  # pragma: no cover - asked for when read
            raise RuntimeError
        return sample_minisets(
            [self.embeddings[slide]],
            [self.coords[slide]],
            draw.n_minisets,
            size=draw.size_for(self.model),
            n_neighbors=self.model.network.n_neighbors,
            random_state=draw.random_state,
        )

    def probes(self, slide: str, draw: Draw) -> list[ProbeSet]:
        """The same subsets without targets but, where coordinates are known, the true neighbours."""
        h, x = self.embeddings[slide], None if self.coords is None else self.coords[slide]
        drawn = draw_cells([len(h)], draw.n_minisets, draw.size_for(self.model), draw.random_state)
        return [
            probe_set(h[cells], None if x is None else x[cells], self.model.network.n_neighbors) for _, cells in drawn
        ]


def read_held_out(
    adata: AnnData,
    model: IPALite | None,
    *,
    library_key: str | None,
    spatial_key: str | None,
    layer: str | None,
    device: str,
) -> HeldOut:
    """Embed the slides of an AnnData; with ``spatial_key`` their coordinates are read, and must be there.

    Raises
    ------
    KeyError, ValueError
        If the model, the slides, the coordinates or the expression are missing or not usable.
    """
    if model is None:
        model, library_key = stored_ipalite(adata, library_key)
        layer = layer or adata.uns.get(EMBED_RECORD, {}).get("layer")
    expression = get_expression(adata, layer=layer)
    slides = get_slides(adata, library_key)
    coords = None
    if spatial_key is not None:
        coords = get_coords(adata, spatial_key)
        check_distinct(coords, slides)
    model = copy.deepcopy(model)  # the caller's stays on its own device
    for module in model.modules:
        module.to(get_device(device))
    h = model.encoder.transform(expression.matrix, expression.genes, slides)

    def by_slide(values: NDArray[np.float32]) -> dict[str, Tensor]:
        return {str(name): torch.from_numpy(values[slides == name]) for name in slides.categories}

    return HeldOut(model, by_slide(h), None if coords is None else by_slide(coords))
