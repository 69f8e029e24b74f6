"""Running quartiles, for `shepard` and `uncertainty`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def quartiles(
    x: NDArray[np.float64], y: NDArray[np.float64], *, n_bins: int = 25
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Median of x, and quartiles of y, in bins of equal counts along x."""
    order = np.argsort(x, kind="stable")
    bins = [part for part in np.array_split(order, n_bins) if len(part)]
    centre = np.array([np.median(x[part]) for part in bins])
    low, middle, high = np.array([np.quantile(y[part], (0.25, 0.5, 0.75)) for part in bins]).T
    return centre, low, middle, high
