"""Slides as the plain arrays that the controls read, by ipar's own checks."""

from __future__ import annotations

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from ipar.baselines.inputs import FloatArray, Reference, as_expression, as_reference
from ipar.metrics.checks import gauge_fix

Rows = list[NDArray[np.intp]]


def reference_of(train: ad.AnnData, query: ad.AnnData, *, centre_slides: bool = True) -> Reference:
    """Centre genes within slides, or by the mean of the training slides, and bring positions to unit radius."""
    labels = train.obs["slide"].astype(str).to_numpy()
    return as_reference(train.X, train.obsm["spatial"], labels, query.X, centre_slides=centre_slides)


def dense(adata: ad.AnnData) -> FloatArray:
    """Expression, a dense float32 copy in C order."""
    return as_expression(adata.X, "X")


def unit_radius(coords: NDArray[np.floating]) -> FloatArray:
    """Positions, centred and scaled to unit RMS radius."""
    return gauge_fix(np.asarray(coords, dtype=np.float64)).astype(np.float32)
