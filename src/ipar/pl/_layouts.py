"""Layouts of the same cells side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipar._anndata import COORDS, RECYCLES
from ipar._docs import shared_docs
from ipar._options import Count
from ipar._public import public
from ipar.metrics import procrustes_align, procrustes_error
from ipar.pl._colors import add_key, cell_colors
from ipar.pl._figure import as_map, dots, figure_of, finish, get_panels, panel_height
from ipar.pl._read import layout, read_slide

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@public
@shared_docs
def coords(
    adata: AnnData,
    color: str | None = None,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot true and predicted coordinates side by side, with the same colour per cell.

    The prediction is aligned with the truth by rotation or reflection, scale and shift. The title has its error, the root
    mean squared distance from the truth in RMS radii: 0 is perfect, 1 is every cell at the centre.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`.
    color
        Column of ``obs`` to colour by. By default, cells are coloured by true position, or by predicted position if the
        truth is unknown.
    use_rep
        Key in ``obsm`` of the predicted coordinates (n, 2).
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). If it is missing or None, only the prediction is drawn.
    %(slide)s
    ax
        Two axes to draw on instead of a new figure, or one if the truth is unknown. Legend and figure title are then
        left out.
    %(show)s
    %(figure)s

    Notes
    -----
    One slide is drawn at a time, because slides share no frame. Colours by position run from blue to orange along one axis
    and from dark to light along the other. Parts of the tissue that are mirrored, swapped or folded onto each other
    show as colours out of place. A prediction that has shrunk to the centre stays small.
    """
    panels = {"prediction": layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]}
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    figure = _draw_layouts(adata, panels, color, ax, n_cols=2, width=3.6, **keys)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


@public
@shared_docs
def coord_progression(
    adata: AnnData,
    color: str | None = None,
    *,
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    n_cols: Count = 4,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the truth, the network's own layout after each recycle, and the finished layout.

    The finished layout blends the network's last one with the global map and the flow's expected layout, and is sharpened.
    Each cell has the same colour throughout. Each layout is aligned with the truth by rotation or reflection, scale and
    shift. If the truth is unknown, layouts stay as they were stored, turned onto the finished one. Titles have the error,
    the root mean squared distance from the truth in RMS radii: 0 is perfect, 1 is every cell at the centre.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`, with ``obsm["X_ipar_recycles"]`` and ``obsm["X_ipar"]``.
    color
        Column of ``obs`` to colour by. By default, cells are coloured by true position, or by position in the finished layout
        if the truth is unknown.
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). If it is missing or None, the truth is not drawn.
    %(slide)s
    n_cols
        Panels per row.
    ax
        Axes to draw on instead of a new figure: R + 3 for R recycles, or R + 2 if the truth is unknown. Legend and figure
        title are then left out.
    %(show)s
    %(figure)s
    """
    stored, finished = (layout(adata, key, "ipar.tl.predict_coords") for key in (RECYCLES, COORDS))
    names = ["initial guess", *(f"recycle {number}" for number in range(1, stored.shape[1] // 2))]
    panels = {name: stored[:, 2 * place : 2 * place + 2] for place, name in enumerate(names)}
    panels["finished layout"] = finished
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    figure = _draw_layouts(adata, panels, color, ax, n_cols=n_cols, width=2.6, **keys)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


def _draw_layouts(
    adata: AnnData,
    panels: dict[str, NDArray[np.float64]],
    color: str | None,
    ax: AxesLike | None,
    *,
    n_cols: int,
    width: float,
    **keys: str | None,
) -> Figure:
    """Draw predicted layouts (n_obs, 2) of one slide, aligned with the truth if that is known, all to the same scale."""
    rows, slide, truth = read_slide(adata, *panels.values(), **keys)
    panels = {name: xy[rows] for name, xy in panels.items()}
    errors = {}
    if truth is not None:
        target = truth[rows]
        errors = {name: procrustes_error(target, xy).rmse for name, xy in panels.items()}
        panels = {"truth": target} | {name: procrustes_align(target, xy) for name, xy in panels.items()}
    colors = cell_colors(adata, color, rows, panels["truth"] if truth is not None else list(panels.values())[-1])
    everything = np.concatenate(list(panels.values()))
    size = (width, panel_height(everything, width))
    axes = get_panels(ax, list(panels), size, n_cols=n_cols, margin=0.1 if colors.bare else 1.2)
    for panel, (name, xy) in zip(axes, panels.items(), strict=True):
        as_map(panel, everything)
        dots(panel, xy, c=colors.rgba, label=name)
        panel.set_title(f"{name} (error {errors[name]:.2f})" if name in errors else name, fontsize=10)
    if ax is None:
        add_key(axes, colors, slide)
    return figure_of(axes)
