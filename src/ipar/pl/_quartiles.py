"""Running quartiles, for `shepard` and `uncertainty`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipar.pl._figure import VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def draw_quartiles(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, n_bins: int = 25, alpha: float) -> None:
    """Draw the running median of y as a line, and the interquartile range as a band."""
    centre, low, middle, high = quartiles(x, y, n_bins=n_bins)
    ax.fill_between(centre, low, high, color=VERMILLION, alpha=alpha, linewidth=0, label="middle half")
    ax.plot(centre, middle, color=VERMILLION, linewidth=1.8, label="median")
