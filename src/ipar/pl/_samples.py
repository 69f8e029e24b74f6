from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize

from ipar._anndata import uncertainty_key
from ipar._docs import shared_docs
from ipar._options import Natural, Positive
from ipar._public import public
from ipar.metrics import procrustes_align
from ipar.pl._colors import position_colors
from ipar.pl._figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    dots,
    figure_of,
    finish,
    get_panels,
    linked,
    panel_height,
)
from ipar.pl._read import cells_of_slide, finite_rows, stored_array, true_positions
from ipar.pl._style import Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_REMEDY = "ipar.tl.sample_coords"
_CELL_COLORS = (BLUE, ORANGE, GREEN, VERMILLION)


@public
@shared_docs
def samples(
    adata: AnnData,
    cells: Sequence[str] | None = None,
    *,
    n_shown: Natural = 2,
    use_rep: str = "X_ipar",
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the uncertainty of a layout, the samples of single cells, and single samples.

    The first panel shows the layout, coloured by uncertainty. The second shows all samples of up to four cells over the
    layout in grey; stars mark the cells in the layout. One cloud is one place with its error, two clouds are two
    alternatives. The other panels show single samples, with the same colour per cell.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.sample_coords`. In three dimensions the first two principal axes are drawn.
    cells
        Names of up to four cells whose samples are drawn. By default the least and the most certain cell and two between.
    n_shown
        Number of single samples to draw.
    use_rep
        Key in ``obsm`` of the layout. Samples are in ``obsm[use_rep + "_samples"]``.
    spatial_key
        Key in ``obsm`` of the true positions, for alignment and colours. If it is missing or None, the layout
        is used.
    %(slide)s
    %(size)s
    %(cmap)s
    ax
        Axes to draw on instead of a new figure: uncertainty, samples of cells, and one per single sample.
    %(show)s
    %(figure)s
    """
    style = Style(size, frameon, title, None, cmap)
    point, drawn, spread = _read(adata, use_rep)
    rows, name = cells_of_slide(adata, library_key, slide)
    rows = finite_rows(rows, point)
    if not 0 <= n_shown <= drawn.shape[1]:
        msg = f"n_shown must lie between 0 and the number of samples, {drawn.shape[1]}, found {n_shown}."
        raise ValueError(msg)
    truth = true_positions(adata, spatial_key) if point.shape[1] == 2 else None
    point, drawn = _in_plane(point[rows], drawn[rows], None if truth is None else truth[rows])
    chosen = _chosen(adata, rows, cells, spread[rows])
    names = ["uncertainty", "samples of cells", *(f"sample {i + 1}" for i in range(n_shown))]
    everything = np.concatenate([point, *drawn.transpose(1, 0, 2)[:n_shown], drawn[chosen].reshape(-1, 2)])
    axes = get_panels(ax, names, (3.0, panel_height(everything, 3.0)), n_cols=4, margin=0.6)
    linked(axes)
    style.name(axes, names)
    for panel in axes:
        style.map(panel, everything)
    scale = ScalarMappable(Normalize(0.0, max(float(np.nanmax(spread[rows])), 1e-12)), style.numbers())
    style.dots(axes[0], point, c=scale.to_rgba(spread[rows]), label="uncertainty")
    figure = figure_of(axes)
    if ax is None:
        figure.colorbar(scale, ax=axes[0], label="RMS radii", location="bottom", shrink=0.7, aspect=25)
    _clouds(axes[1], point, drawn, chosen)
    colors = position_colors(point if truth is None else truth[rows])
    for i, panel in enumerate(axes[2:]):
        style.dots(panel, drawn[:, i], c=colors, label=f"sample {i + 1}")
    if ax is None:
        style.heading(axes, name, len(axes))
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


def _read(adata: AnnData, use_rep: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Layout (n, d), samples (n, S, d) and uncertainty (n,)."""
    point, drawn = (stored_array(adata, key, f"run {_REMEDY} first") for key in (use_rep, f"{use_rep}_samples"))
    doubt = uncertainty_key(use_rep)
    if doubt not in adata.obs:
        msg = f"adata.obs has no {doubt!r}: run {_REMEDY} first."
        raise KeyError(msg)
    if drawn.shape[1] % point.shape[1]:
        msg = f"obsm[{use_rep!r}] has {point.shape[1]} columns and its samples {drawn.shape[1]}: run {_REMEDY} again."
        raise ValueError(msg)
    return point, drawn.reshape(len(point), -1, point.shape[1]), adata.obs[doubt].to_numpy(dtype=np.float64)


def _in_plane(
    point: NDArray[np.float64], drawn: NDArray[np.float64], truth: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Layout and samples in two dimensions, aligned with the truth if that is known."""
    if truth is not None and np.isfinite(truth).all():
        unit = truth - truth.mean(axis=0)
        aligned = procrustes_align(unit, point)
        # the same rotation for all, so that samples still differ from the layout
        turn, *_ = np.linalg.lstsq(point - point.mean(axis=0), aligned - aligned.mean(axis=0), rcond=None)
    else:
        _, _, axes = np.linalg.svd(point - point.mean(axis=0), full_matrices=False)
        turn = axes[:2].T
    return point @ turn, drawn @ turn


def _chosen(
    adata: AnnData, rows: NDArray[np.intp], cells: Sequence[str] | None, spread: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Positions, among the cells of the slide, of those whose samples are drawn."""
    if cells is None:
        order, last = np.argsort(spread), len(spread) - 1
        return order[sorted({last, last * 3 // 4, last // 3, 0}, reverse=True)]
    if len(cells) > len(_CELL_COLORS):
        msg = f"Samples of at most {len(_CELL_COLORS)} cells can be drawn, found {len(cells)}: pass fewer."
        raise ValueError(msg)
    found = adata.obs_names[rows].get_indexer(list(cells))
    if (found < 0).any():
        missing = [cell for cell, place in zip(cells, found, strict=True) if place < 0]
        msg = f"the slide has no cells {missing}: pass names from adata.obs_names, or another slide."
        raise KeyError(msg)
    return np.asarray(found, dtype=np.intp)


def _clouds(panel: Axes, point: NDArray[np.float64], drawn: NDArray[np.float64], chosen: NDArray[np.intp]) -> None:
    dots(panel, point, c=GREY, alpha=0.5, label="layout")
    for color, cell in zip(_CELL_COLORS, chosen, strict=False):
        dots(panel, drawn[cell], c=color, s=22, alpha=0.8, edgecolors="white", linewidths=0.4, label=f"cell {cell}")
        place = point[cell][None]
        dots(panel, place, c=color, s=130, marker="*", edgecolors=INK, linewidths=0.8, zorder=3, label=f"place {cell}")
