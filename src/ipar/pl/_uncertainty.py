from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ipar._anndata import uncertainty_key
from ipar.metrics import cell_errors, certain_half_error, procrustes_align, uncertainty_spearman
from ipar.pl._figure import INK, as_chart, as_map, dots, figure_of, finish, get_axes, panel_height, shared_docs
from ipar.pl._quartiles import draw_quartiles
from ipar.pl._read import layout, read_slide

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@shared_docs
def uncertainty(
    adata: AnnData,
    key: str | None = None,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
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
    ax
        Two axes to draw on instead of a new figure, or one if the truth is unknown. The colour bar is then left out.
    %(show)s
    %(figure)s
    """
    key = uncertainty_key(use_rep) if key is None else key
    doubt = _doubt(adata, key)
    predicted = layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    rows, name, truth = read_slide(adata, predicted, doubt[:, None], **keys)
    xy = predicted[rows] if truth is None else procrustes_align(truth[rows], predicted[rows])
    names = ["layout"] if truth is None else ["layout", "error"]
    size = (3.7 * len(names) + 1.0, max(panel_height(xy, 3.7), 2.8) + 0.4)
    axes = get_axes(ax, names, size, n_cols=2)
    scale = _draw_layout(axes[0], xy, doubt[rows], name)
    if truth is not None:
        _draw_error(axes[1], doubt[rows], cell_errors(truth[rows], predicted[rows]), key)
    figure = figure_of(axes)
    if ax is None:
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


def _draw_layout(ax: Axes, xy: NDArray[np.float64], doubt: NDArray[np.float64], name: str | None) -> ScalarMappable:
    # clip extreme values, which would leave all other cells in one colour
    low, high = np.percentile(doubt, [1, 99])
    scale = ScalarMappable(Normalize(float(low), float(max(high, low + 1e-12))), "viridis")
    order = np.argsort(-doubt, kind="stable")
    as_map(ax, xy)
    dots(ax, xy[order], c=scale.to_rgba(doubt[order]), label="prediction")
    ax.set_title(f"{name}: prediction" if name else "prediction", fontsize=10)
    return scale


def _draw_error(ax: Axes, doubt: NDArray[np.float64], error: NDArray[np.float64], key: str) -> None:
    dots(ax, np.column_stack([doubt, error]), s=6, color=INK, alpha=0.35, label="cells")
    draw_quartiles(ax, doubt, error, n_bins=int(np.clip(len(doubt) // 20, 3, 12)), alpha=0.3)
    as_chart(ax)
    ax.set_ylim(0, None)
    ax.set_xlabel(key, fontsize=9)
    ax.set_ylabel("distance from the true position (RMS radii)", fontsize=9)
    rho, half = uncertainty_spearman(error, doubt), certain_half_error(error, doubt)
    ax.set_title(f"Spearman {rho:.2f}, surest half: error × {half:.2f}", fontsize=10)
    ax.legend(framealpha=0.9, edgecolor="none", fontsize=8, loc="upper right")
