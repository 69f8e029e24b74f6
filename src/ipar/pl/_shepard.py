from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from ipar.metrics._checks import gauge_fix
from ipar.pl._figure import INK, VERMILLION, as_chart, finish, given_axes, new_axes
from ipar.pl._quartiles import quartiles
from ipar.pl._read import cells_of_slide, finite_rows, layout, true_positions

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MAX_CELLS = 1500  # a million pairs are enough
_GRID = 60


def shepard(
    adata: AnnData,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    random_state: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot predicted against true distances of all pairs of cells (Shepard diagram).

    Shades show the number of pairs on a logarithmic scale. The line is the median predicted distance, the band the
    interquartile range. Distances on the diagonal are correct. A line that levels off means that distant parts of the
    tissue are too close; a wide band at its start means that neighbours are torn apart.

    Parameters
    ----------
    adata
        Cells with predicted and true coordinates.
    use_rep
        Key in ``obsm`` of the predicted coordinates (n, 2).
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2).
    library_key
        Column of ``obs`` with the slide of each cell. By default ``"slide"`` if it exists.
    slide
        Slide to draw. By default the first by name.
    random_state
        Seed of the 1,500 cells drawn from a larger slide.
    ax
        Axes to draw on instead of a new figure.
    show
        Call :func:`matplotlib.pyplot.show`. By default only if neither `ax` nor `return_fig` is given.
    return_fig
        Return the figure.

    Returns
    -------
    matplotlib.figure.Figure or None
        The figure, if `return_fig`.

    Raises
    ------
    KeyError
        If predicted or true coordinates, or the slide column are missing.
    ValueError
        If the slide is unknown, coordinates have the wrong shape, or fewer than three cells have finite ones.

    References
    ----------
    Shepard, Psychometrika 27 (1962).
    """
    predicted = layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]
    truth = true_positions(adata, spatial_key)
    if truth is None:
        msg = f"adata.obsm has no {spatial_key!r}: a Shepard diagram needs true coordinates; pass their key as spatial_key."
        raise KeyError(msg)
    rows, name = cells_of_slide(adata, library_key, slide)
    rows = finite_rows(rows, truth, predicted)
    if len(rows) < 3:
        msg = f"a Shepard diagram needs at least three cells with finite coordinates, found {len(rows)}."
        raise ValueError(msg)
    if len(rows) > _MAX_CELLS:
        rows = np.random.default_rng(random_state).choice(rows, _MAX_CELLS, replace=False)
    (axes,) = new_axes(["shepard"], n_cols=1, panel=(4.2, 3.6)) if ax is None else given_axes(ax, ["shepard"])
    _draw(axes, pdist(gauge_fix(truth[rows])), pdist(gauge_fix(predicted[rows])), name)
    finish(ax=ax, show=show, return_fig=return_fig)
    figure: Figure = axes.figure.figure
    return figure if return_fig else None


def _draw(ax: Axes, true: NDArray[np.float64], predicted: NDArray[np.float64], name: str | None) -> None:
    limit = float(max(true.max(), np.quantile(predicted, 0.999))) * 1.02
    ax.hexbin(
        true, predicted, gridsize=_GRID, extent=(0, limit, 0, limit), bins="log", cmap="Greys", linewidths=0, alpha=0.5
    )
    ax.plot([0, limit], [0, limit], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="equal")
    centre, low, middle, high = quartiles(true, predicted)
    ax.fill_between(centre, low, high, color=VERMILLION, alpha=0.4, linewidth=0, label="middle half")
    ax.plot(centre, middle, color=VERMILLION, linewidth=1.8, label="median")
    as_chart(ax)
    varies = true.min() < true.max() and predicted.min() < predicted.max()
    rho = f"{spearmanr(true, predicted).statistic:.2f}" if varies else "undefined"
    ax.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    ax.set_xlabel("true distance (RMS radii)")
    ax.set_ylabel("predicted distance (RMS radii)")
    ax.set_title(f"{f'{name}: ' if name else ''}Spearman over pairs {rho}", fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
