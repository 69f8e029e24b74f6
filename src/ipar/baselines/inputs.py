"""Checked arrays and input features of the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from ipar._seeds import as_rng
from ipar.metrics.checks import gauge_fix

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """Training cells with positions, and the query.

    Attributes
    ----------
    x
        Centred expression of the training cells, ``(n_train, n_genes)``.
    coords
        Positions, each slide centred and scaled to unit RMS radius, ``(n_train, 2)``.
    slides
        Slide of each training cell as an integer from 0, ``(n_train,)``.
    query
        Centred expression of the query slide, ``(n_query, n_genes)``.
    """

    x: FloatArray
    coords: FloatArray
    slides: NDArray[np.intp]
    query: FloatArray

    @property
    def rows(self) -> list[NDArray[np.intp]]:
        """Rows of the training cells of each slide."""
        return [np.flatnonzero(self.slides == code) for code in range(int(self.slides.max()) + 1)]


def as_expression(x: Any, name: str) -> FloatArray:
    """Dense float32 copy of a dense or sparse matrix ``(n_cells, n_genes)``, in C order."""
    plain: Any = x  # scipy's abstract base class declares no toarray
    dense = np.array(plain.toarray() if sparse.issparse(x) else plain, dtype=np.float32, order="C")
    if dense.ndim != 2 or dense.shape[0] < 2 or dense.shape[1] < 1:
        msg = f"`{name}` must have shape (n_cells, n_genes) with at least two cells and one gene, found {dense.shape}."
        raise ValueError(msg)
    if not np.isfinite(dense).all():
        msg = f"`{name}` holds NaN or infinite values; remove or impute them first."
        raise ValueError(msg)
    return dense


def as_coords(coords: ArrayLike, name: str, n_cells: int | None = None) -> NDArray[np.float64]:
    """Float64 positions ``(n_cells, 2)``."""
    array = np.array(coords, dtype=np.float64)
    expected = "n_cells" if n_cells is None else str(n_cells)
    if array.ndim != 2 or array.shape[1] != 2 or (n_cells is not None and len(array) != n_cells):
        msg = f"`{name}` must have shape ({expected}, 2), one position per cell, found {array.shape}."
        raise ValueError(msg)
    if not np.isfinite(array).all():
        msg = f"`{name}` holds NaN or infinite values; remove these cells first."
        raise ValueError(msg)
    return array


def as_reference(
    train_x: Any, train_coords: ArrayLike, train_slides: ArrayLike, query_x: Any, *, centre_slides: bool = True
) -> Reference:
    """Check the arrays against each other, centre genes, and gauge-fix positions slide by slide."""
    x, query = as_expression(train_x, "train_x"), as_expression(query_x, "query_x")
    if x.shape[1] != query.shape[1]:
        msg = f"`train_x` and `query_x` must have the same genes, found {x.shape[1]} and {query.shape[1]} columns."
        raise ValueError(msg)
    coords = as_coords(train_coords, "train_coords", len(x))
    labels = np.asarray(train_slides)
    if labels.shape != (len(x),):
        msg = f"`train_slides` must have shape ({len(x)},), one label per cell, found {labels.shape}."
        raise ValueError(msg)
    names, slides = np.unique(labels.astype(str), return_inverse=True)
    mean = x.mean(axis=0)
    for code, name in enumerate(names):
        rows = slides == code
        x[rows] -= x[rows].mean(axis=0) if centre_slides else mean
        coords[rows] = gauge_fix(coords[rows])
        if not coords[rows].any():
            msg = f"all cells of slide {str(name)!r} have the same position; drop it, or pass its measured coordinates."
            raise ValueError(msg)
    query -= query.mean(axis=0) if centre_slides else mean
    return Reference(x, coords.astype(np.float32), slides, query)


def sklearn_seed(random_state: int | np.random.Generator | None) -> int:
    """Integer seed for libraries that do not take a numpy generator."""
    return int(as_rng(random_state).integers(2**31 - 1))


def unit_scale(x: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide both by the root mean square of the first, a single scale for all features."""
    scale = float(np.sqrt(np.square(x).mean())) or 1.0
    return x / np.float32(scale), query / np.float32(scale)


def fit_pca(x: FloatArray, n_components: int, seed: int) -> PCA:
    """Fit up to as many components as there are cells or genes."""
    return PCA(min(n_components, *x.shape), svd_solver="randomized", random_state=seed).fit(x)


def principal_components(
    x: FloatArray, query: FloatArray, n_components: int, *, seed: int, power: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Principal components of `x`, each divided by a power of its standard deviation, at unit scale.

    With a power of 0, components stay as they are; with 1 they are whitened.
    """
    pca = fit_pca(x, n_components, seed)
    train = pca.transform(x)
    divisor = np.maximum(train.std(axis=0), 1e-6) ** power
    return unit_scale(train / divisor, pca.transform(query) / divisor)
