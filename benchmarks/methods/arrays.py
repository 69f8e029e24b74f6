"""Slides as plain arrays, and the features that the controls read."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

FloatArray = NDArray[np.float32]
Rows = list[NDArray[np.intp]]

_STD_MIN = 1e-6


@dataclass(frozen=True)
class Reference:
    """Training cells with positions, and the query.

    Attributes
    ----------
    x
        Centred expression of the training cells, ``(n, n_genes)``.
    coords
        Positions, each slide centred and scaled to unit RMS radius, ``(n, 2)``.
    rows
        Rows of each slide.
    query
        Centred expression of the query slide, ``(n_query, n_genes)``.
    """

    x: FloatArray
    coords: FloatArray
    rows: Rows
    query: FloatArray


def reference_of(train: ad.AnnData, query: ad.AnnData, *, centre_slides: bool = True) -> Reference:
    """Centre genes within slides, or by the mean of the training slides, and bring positions to unit radius."""
    x, unseen = dense(train), dense(query)
    labels = train.obs["slide"].astype(str).to_numpy()
    rows = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    mean, coords = x.mean(axis=0), np.empty((len(x), 2), dtype=np.float32)
    for cells in rows:
        x[cells] -= x[cells].mean(axis=0) if centre_slides else mean
        coords[cells] = unit_radius(train.obsm["spatial"][cells])
    unseen -= unseen.mean(axis=0) if centre_slides else mean
    return Reference(x, coords, rows, unseen)


def dense(adata: ad.AnnData) -> FloatArray:
    """Expression, a dense float32 copy in C order."""
    plain = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    return np.array(plain, dtype=np.float32, order="C")


def unit_radius(coords: NDArray[np.floating]) -> FloatArray:
    """Positions, centred and scaled to unit RMS radius."""
    centred = np.asarray(coords, dtype=np.float64) - np.asarray(coords, dtype=np.float64).mean(axis=0)
    fixed: FloatArray = (centred / np.sqrt(np.square(centred).sum(axis=1).mean())).astype(np.float32)
    return fixed


def unit_scale(x: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide both by the root mean square of the first, a single scale for all features."""
    scale = float(np.sqrt(np.square(x).mean())) or 1.0
    return x / np.float32(scale), query / np.float32(scale)


def principal_components(
    x: FloatArray, query: FloatArray, n_components: int, *, seed: int, power: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Principal components of ``x``, each divided by a power of its standard deviation, at unit scale."""
    pca = PCA(min(n_components, *x.shape), svd_solver="randomized", random_state=seed).fit(x)
    train = pca.transform(x)
    divisor = np.maximum(train.std(axis=0), _STD_MIN) ** power
    return unit_scale(train / divisor, pca.transform(query) / divisor)
