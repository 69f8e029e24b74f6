"""Cells of an AnnData on a reference slide of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import warn
from ipar._run import Run
from ipar.graph.neighbors import cells_by_slide
from ipar.model import Features, IPALite
from ipar.model.placement import OnReference, Placement
from ipar.model.reference import Reference, ReferenceSlide


class FrameWarning(UserWarning):
    """Rotation or reflection of a layout on its reference cannot be told."""


@dataclass(frozen=True)
class Placed:
    """Cells of all slides on one reference slide.

    Attributes
    ----------
    coords
        Coordinates in the reference's frame and units, ``(n, 2)``.
    weights
        Weights of its places, CSR ``(n, m)``.
    confidence, similarity
        As in :class:`ipar.model.placement.OnReference`, ``(n,)`` each.
    record
        Reference, transport, and per slide the certainty of the frame and whether it is mirrored.
    """

    coords: NDArray[np.float64]
    weights: sparse.csr_matrix
    confidence: NDArray[np.float32]
    similarity: NDArray[np.float32]
    record: dict[str, Any]


def known_reference(model: IPALite, name: str | None) -> tuple[Reference, ReferenceSlide]:
    """The model's reference, and the slide of a name, or the only one.

    Raises
    ------
    ValueError
        If the model has no reference, or no such slide.
    """
    if model.reference is None:
        msg = "The model keeps no reference: fit it with keep_reference=True."
        raise ValueError(msg)
    return model.reference, model.reference.slide(name)


def place_cells(
    model: IPALite,
    features: Features,
    layout: NDArray[np.float32] | None,
    labels: pd.Categorical[Any],
    reference: str | None,
    placement: Placement,
    run: Run,
) -> Placed:
    """Place every slide by itself on the same reference slide; warns where a frame is not decided.

    A slide whose layout is missing (NaN) is placed by its matches.
    """
    known, slide = known_reference(model, reference)
    projected = known.project(features.embedding)
    found: dict[str, OnReference] = {}
    coords = np.empty((len(labels), 2))
    confidence, similarity = (np.empty(len(labels), dtype=np.float32) for _ in range(2))
    blocks, order = [], []
    for name, rows in zip(labels.categories, cells_by_slide(labels, len(labels)), strict=True):
        if not len(rows):
            continue
        own = None if layout is None or np.isnan(layout[rows]).any() else layout[rows]
        one = found[str(name)] = placement.place(projected[rows], own, slide, run.seed)
        coords[rows], confidence[rows], similarity[rows] = one.coords, one.confidence, one.similarity
        blocks.append(one.weights)
        order.append(rows)
    weights = sparse.csr_matrix(sparse.vstack(blocks, format="csr")[np.argsort(np.concatenate(order))])
    frames = _frames(found, slide, placement)
    record = {"reference": slide.name, "transport": placement.transport, "frames": frames}
    return Placed(coords, weights, confidence, similarity, record)


def _frames(found: dict[str, OnReference], slide: ReferenceSlide, placement: Placement) -> dict[str, NDArray[Any]]:
    """Certainty of every frame, as columns of a table; warns of those that are not decided."""
    framed = {name: one.frame for name, one in found.items() if one.frame is not None}
    certain = np.array([frame.certainty for frame in framed.values()])
    decided = certain >= placement.least_certainty
    doubtful = [name for name, sure in zip(framed, decided, strict=True) if not sure]
    if doubtful:
        warn(
            f"How {', '.join(doubtful)} is turned or mirrored on reference {slide.name!r} cannot be told: another "
            f"orientation matches about as well (certainty {certain[~decided].min():.2f}, "
            f"{placement.least_certainty:g} is needed). obsm['X_ipar'] is not affected.",
            FrameWarning,
        )
    return {
        "slide": np.array(list(framed), dtype=object),
        "certainty": certain,
        "decided": decided,
        "mirrored": np.array([frame.similarity.mirrored for frame in framed.values()], dtype=bool),
    }


def with_transport(placement: Placement, transport: float) -> Placement:
    """The same with another share of the transport."""
    return replace(placement, transport=transport)
