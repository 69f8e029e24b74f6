"""Cells of an AnnData on a reference slide of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import warn
from ipar.model import IPALite
from ipar.model.placement import OnReference, Placement
from ipar.model.reference import ReferenceSlide


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
    radius
        Length of an RMS radius of the cells' layout in the reference's units, ``(n,)``; NaN for cells without a layout.
    record
        Reference, transport, and per slide the certainty of the frame, the orientation of the reference, and whether the
        frame is decided and mirrored.
    """

    coords: NDArray[np.float64]
    weights: sparse.csr_matrix
    confidence: NDArray[np.float32]
    similarity: NDArray[np.float32]
    radius: NDArray[np.float64]
    record: dict[str, Any]


def known_reference(model: IPALite, name: str | None) -> ReferenceSlide:
    """The training slide of a name, or the only one.

    Raises
    ------
    ValueError
        If the model has no reference, or no such slide.
    """
    if model.reference is None:
        msg = "The model keeps no reference: fit it with keep_reference=True."
        raise ValueError(msg)
    return model.reference.slide(name)


def joined_places(
    found: dict[str, tuple[NDArray[np.int64], OnReference]], n_cells: int, slide: ReferenceSlide, placement: Placement
) -> Placed:
    """All cells from the rows and the placement of every slide; warns where a frame is not decided."""
    rows = np.concatenate([rows for rows, _ in found.values()])
    order = np.argsort(rows, kind="stable")
    assert len(rows) == n_cells
    parts = [one for _, one in found.values()]
    coords, confidence, similarity = (
        np.concatenate([getattr(one, name) for one in parts])[order] for name in ("coords", "confidence", "similarity")
    )
    radius = np.concatenate([np.full(len(own), one.radius) for own, one in found.values()])[order]
    weights = sparse.csr_matrix(sparse.vstack([one.weights for one in parts], format="csr")[order])
    frames = _frames({name: one for name, (_, one) in found.items()}, slide, placement)
    record = {"reference": slide.name, "transport": placement.transport, "frames": frames}
    return Placed(coords, weights, confidence, similarity, radius, record)


def _frames(found: dict[str, OnReference], slide: ReferenceSlide, placement: Placement) -> dict[str, NDArray[Any]]:
    """Certainty of every frame, as columns of a table; warns of those that are not decided."""
    framed = {name: one.frame for name, one in found.items() if one.frame is not None}
    certain = np.array([frame.certainty for frame in framed.values()])
    decided = np.array([placement.decided(frame, slide) for frame in framed.values()], dtype=bool)
    doubtful = [name for name, sure in zip(framed, decided, strict=True) if not sure]
    if doubtful and slide.oriented < placement.least_oriented:
        why = (
            "on held-out cells of the training slides, expression does not tell the sides of the tissue (orientation "
            f"{slide.oriented:.2f}, {placement.least_oriented:g} is needed)"
        )
    else:
        why = (
            f"another orientation matches about as well (certainty {certain.min(initial=1.0):.3f}, "
            f"{placement.least_certainty:g} is needed)"
        )
    if doubtful:
        warn(
            f"How {', '.join(doubtful)} is turned or mirrored on reference {slide.name!r} cannot be told: {why}. "
            "obsm['X_ipar'] is not affected.",
            FrameWarning,
        )
    return {
        "slide": np.array(list(framed), dtype=object),
        "certainty": certain,
        "oriented": np.full(len(framed), slide.oriented),
        "decided": decided,
        "mirrored": np.array([frame.similarity.mirrored for frame in framed.values()], dtype=bool),
    }
