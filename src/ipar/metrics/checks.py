"""Checks of arrays, and the gauge in which layouts are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def as_floats(values: ArrayLike, name: str, expected: str) -> FloatArray:
    """Return `values` as a float64 array; arrays that are masked, sparse, complex or of words are refused."""
    wanted = f"`{name}` must be a dense numeric {expected}"
    try:
        found = np.asarray(values)
        kind = "a masked array" if isinstance(values, np.ma.MaskedArray) else f"dtype {found.dtype}"
        if kind.startswith("dtype") and found.dtype.kind in "biufO":
            return found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors that require gradients
        msg = f"{wanted}: {error}"
        raise TypeError(msg) from error
    msg = f"{wanted}, found {kind}."
    raise TypeError(msg)


def as_coordinates(values: ArrayLike, name: str) -> FloatArray:
    """Return `values` as a finite float64 array of shape (n, 2) with at least four rows."""
    array = as_floats(values, name, "array of shape (n_cells, 2)")
    if array.ndim != 2 or array.shape[1] != 2:
        msg = f"`{name}` must have shape (n_cells, 2), found {array.shape}; pass one row of x, y for each cell."
        raise ValueError(msg)
    if array.shape[0] < 4:  # with fewer, nothing is left to correlate after alignment
        msg = f"`{name}` has {array.shape[0]} cells; the metrics need at least 4."
        raise ValueError(msg)
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        msg = f"`{name}` is NaN or infinite in {bad} of {array.shape[0]} cells; drop them from both arrays first."
        raise ValueError(msg)
    return array


def as_pair(true: ArrayLike, pred: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check both layouts; the prediction may lie on one point, the truth may not."""
    truth, layout = as_coordinates(true, "true"), as_coordinates(pred, "pred")
    if truth.shape != layout.shape:
        msg = (
            f"`true` has {len(truth)} cells and `pred` {len(layout)}; both must hold the same cells in the same order."
        )
        raise ValueError(msg)
    if rms_radius(truth) == 0:
        msg = "all cells of `true` lie on one point; pass the measured coordinates of the slide."
        raise ValueError(msg)
    return truth, layout


def as_cell_vector(values: ArrayLike, name: str, n_cells: int | None = None) -> FloatArray:
    """Return `values` as a finite float64 vector with one entry per cell."""
    vector = as_floats(values, name, "vector with one value per cell")
    if vector.ndim != 1 or (n_cells is not None and vector.shape[0] != n_cells):
        expected = "(n_cells,)" if n_cells is None else f"({n_cells},)"
        msg = f"`{name}` must have shape {expected}, one value per cell, found {vector.shape}."
        raise ValueError(msg)
    bad = int((~np.isfinite(vector)).sum())
    if bad:
        msg = f"`{name}` is NaN or infinite in {bad} of {vector.shape[0]} cells; drop these cells first."
        raise ValueError(msg)
    return vector


def check_n_neighbors(n_neighbors: int, n_cells: int, largest: int) -> None:
    """Raise ValueError unless 1 <= n_neighbors <= largest."""
    if not 1 <= n_neighbors <= largest:
        msg = f"`n_neighbors` must lie between 1 and {largest} for {n_cells} cells, found {n_neighbors}."
        raise ValueError(msg)


def rms_radius(coords: FloatArray) -> float:
    """Return the RMS distance to the centroid; exactly 0 where the spread is rounding error."""
    centred = coords - coords.mean(axis=0)
    radius = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return radius if radius > 1e-12 * float(np.abs(coords).max()) else 0.0


def gauge_fix(coords: FloatArray) -> FloatArray:
    """Centre and scale to unit RMS radius; a layout on one point becomes all zeros."""
    radius = rms_radius(coords)
    return (coords - coords.mean(axis=0)) / radius if radius else np.zeros_like(coords)
