from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from ipar.metrics.checks import gauge_fix
from ipar.pl._figure import INK, as_chart, figure_of, finish, get_panels, shared_docs
from ipar.pl._quartiles import draw_quartiles
from ipar.pl._read import cells_of_slide, finite_rows, layout, true_positions

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@shared_docs
def shepard(
    adata: AnnData,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    max_cells: int = 1500,
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
    %(slide)s
    max_cells
        Larger slides are drawn by a random subset of this many cells.
    random_state
        Seed of the subset.
    ax
        Axes to draw on instead of a new figure.
    %(show)s
    %(figure)s

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
    if len(rows) > max_cells:
        rows = np.random.default_rng(random_state).choice(rows, max_cells, replace=False)
    (axes,) = get_panels(ax, ["shepard"], (4.2, 3.6))
    _draw(axes, pdist(gauge_fix(truth[rows])), pdist(gauge_fix(predicted[rows])), name)
    return finish(figure_of([axes]), ax=ax, show=show, return_fig=return_fig)


def _draw(ax: Axes, true: NDArray[np.float64], predicted: NDArray[np.float64], name: str | None) -> None:
    limit = float(max(true.max(), np.quantile(predicted, 0.999))) * 1.02
    shades: dict[str, Any] = {"bins": "log", "cmap": "Greys", "linewidths": 0, "alpha": 0.5}
    ax.hexbin(true, predicted, gridsize=60, extent=(0, limit, 0, limit), **shades)
    ax.plot([0, limit], [0, limit], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="equal")
    draw_quartiles(ax, true, predicted, alpha=0.4)
    as_chart(ax)
    varies = true.min() < true.max() and predicted.min() < predicted.max()
    rho = f"{spearmanr(true, predicted).statistic:.2f}" if varies else "undefined"
    ax.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    ax.set_xlabel("true distance (RMS radii)")
    ax.set_ylabel("predicted distance (RMS radii)")
    ax.set_title(f"{f'{name}: ' if name else ''}Spearman over pairs {rho}", fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
