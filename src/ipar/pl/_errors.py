"""Comparison of a prediction with the truth: distances of pairs of cells, and errors against uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from ipar._anndata import uncertainty_key
from ipar._docs import shared_docs
from ipar._options import Positive
from ipar._public import public
from ipar._seeds import as_rng
from ipar.metrics import cell_errors, certain_half_error, procrustes_align, uncertainty_spearman
from ipar.metrics.checks import gauge_fix
from ipar.pl._figure import (
    INK,
    VERMILLION,
    dots,
    figure_of,
    finish,
    get_axes,
    panel_height,
)
from ipar.pl._read import cells_of_slide, finite_rows, layout, read_slide, true_positions
from ipar.pl._style import FigureSize, Style, draw_scale, unit_length

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@public
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
    title: str | None = None,
    cmap: str | Colormap | None = None,
    frameon: bool | None = None,
    figsize: FigureSize | None = None,
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
    title
        Title of the figure (default: the slide, if there are several, and the rank correlation).
    cmap
        Colour map of the number of pairs (default: shades of grey).
    %(chart)s
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
        rows = as_rng(random_state).choice(rows, max_cells, replace=False)
    style = Style(frameon=frameon, title=title, cmap=cmap)
    (axes,) = get_axes(ax, ["shepard"], figsize or (4.3, 4.15), layout="compressed")
    _draw_pairs(axes, pdist(gauge_fix(truth[rows])), pdist(gauge_fix(predicted[rows])), name, style)
    return finish(figure_of([axes]), ax=ax, show=show, return_fig=return_fig)


def _draw_pairs(
    ax: Axes, true: NDArray[np.float64], predicted: NDArray[np.float64], name: str | None, style: Style
) -> None:
    limit = float(max(true.max(), np.quantile(predicted, 0.999))) * 1.02
    shades: dict[str, Any] = {"bins": "log", "cmap": style.numbers("Greys"), "linewidths": 0, "alpha": 0.5}
    ax.hexbin(true, predicted, gridsize=60, extent=(0, limit, 0, limit), **shades)
    ax.plot([0, limit], [0, limit], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="equal")
    draw_quartiles(ax, true, predicted, alpha=0.4)
    style.chart(ax)
    varies = true.min() < true.max() and predicted.min() < predicted.max()
    rho = f"{spearmanr(true, predicted).statistic:.2f}" if varies else "undefined"
    ax.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    ax.set_xlabel("true distance (RMS radii)")
    ax.set_ylabel("predicted distance (RMS radii)")
    style.name([ax], [f"{f'{name}: ' if name else ''}Spearman over pairs {rho}"])
    ax.legend(frameon=False, fontsize=8, loc="upper left")


@public
@shared_docs
def uncertainty(
    adata: AnnData,
    key: str | None = None,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    unit: Positive | None = None,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    figsize: FigureSize | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the uncertainty of a prediction and, if the truth is known, compare it with the error.

    Left: the predicted layout, coloured by uncertainty, with the most certain cells on top. Right: the distance of each cell
    from its true position against its uncertainty, with running median and interquartile range. If the curve rises, the
    uncertainty is informative. The title has the rank correlation, and the mean error of the most certain half relative
    to that of all cells.

    Parameters
    ----------
    adata
        Cells with a predicted layout and an uncertainty.
    key
        Column of ``obs`` with the uncertainty. By default ``"ipar_uncertainty"`` for ``"X_ipar"``, and
        ``"<use_rep>_uncertainty"`` for other keys.
    use_rep
        Key in ``obsm`` of the predicted coordinates (n, 2).
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). If it is missing or None, only the layout is drawn.
    %(slide)s
    %(unit)s
    %(size)s
    %(cmap)s
    %(figsize)s
    ax
        Two axes to draw on instead of a new figure, or one if the truth is unknown. The colour bar is then left out.
    %(show)s
    %(figure)s
    """
    style = Style(size, frameon, title, None, cmap)
    key = uncertainty_key(use_rep) if key is None else key
    doubt = _doubt(adata, key)
    predicted = layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    rows, name, truth = read_slide(adata, predicted, doubt[:, None], **keys)
    xy = predicted[rows] if truth is None else procrustes_align(truth[rows], predicted[rows])
    names = ["layout"] if truth is None else ["layout", "error"]
    figure_size = (3.7 * len(names) + 1.0, max(panel_height(xy, 3.7), 2.8) + 0.4)
    axes = get_axes(ax, names, figsize or figure_size, n_cols=2)
    scale = _draw_layout(axes[0], xy, doubt[rows], style)
    titles = [f"{name}: prediction" if name else "prediction"]
    if truth is not None:
        draw_scale(axes[0], xy, unit_length(adata, unit))
        titles.append(_draw_error(axes[1], doubt[rows], cell_errors(truth[rows], predicted[rows]), key, style))
    style.name(axes, titles)
    figure = figure_of(axes)
    if ax is None:
        style.heading(axes, None, len(axes))
        bar = figure.colorbar(scale, ax=axes[0], label=key, shrink=0.8, aspect=25)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


def _doubt(adata: AnnData, key: str) -> NDArray[np.float64]:
    if key not in adata.obs:
        msg = f"adata.obs has no {key!r}, found {list(adata.obs)}: predict with uncertainty first, or pass its column as key."
        raise KeyError(msg)
    try:
        values: NDArray[np.float64] = adata.obs[key].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        msg = f"adata.obs[{key!r}] must hold numbers, found dtype {adata.obs[key].dtype}: pass another column as key."
        raise ValueError(msg) from error
    return values


def _draw_layout(ax: Axes, xy: NDArray[np.float64], doubt: NDArray[np.float64], style: Style) -> ScalarMappable:
    # clip extreme values, which would leave all other cells in one colour
    low, high = np.percentile(doubt, [1, 99])
    scale = ScalarMappable(Normalize(float(low), float(max(high, low + 1e-12))), style.numbers())
    order = np.argsort(-doubt, kind="stable")
    style.map(ax, xy)
    style.dots(ax, xy[order], c=scale.to_rgba(doubt[order]), label="prediction")
    return scale


def _draw_error(ax: Axes, doubt: NDArray[np.float64], error: NDArray[np.float64], key: str, style: Style) -> str:
    """Draw errors against doubt; gives the title."""
    dots(ax, np.column_stack([doubt, error]), s=6, color=INK, alpha=0.35, label="cells")
    draw_quartiles(ax, doubt, error, n_bins=int(np.clip(len(doubt) // 20, 3, 12)), alpha=0.3)
    style.chart(ax)
    ax.set_ylim(0, None)
    ax.set_xlabel(key, fontsize=9)
    ax.set_ylabel("distance from the true position (RMS radii)", fontsize=9)
    rho, half = uncertainty_spearman(error, doubt), certain_half_error(error, doubt)
    ax.legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="upper right")
    return f"Spearman {rho:.2f}, surest half: error × {half:.2f}"


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
