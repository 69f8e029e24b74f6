from __future__ import annotations

from typing import TYPE_CHECKING

from ipar._anndata import COORDS, RECYCLES
from ipar.pl._figure import finish
from ipar.pl._layouts import collect_layouts
from ipar.pl._read import layout

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from ipar.pl._figure import AxesLike


def coord_progression(
    adata: AnnData,
    color: str | None = None,
    *,
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    n_cols: int = 4,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the truth, the network's own layout after each recycle, and the finished layout.

    The finished layout blends the network's last one with the global map and the flow's expected layout, and is sharpened.
    Every cell has the same colour throughout. Each layout is aligned with the truth by rotation or reflection, scale and
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
    library_key
        Column of ``obs`` with the slide of each cell. By default ``"slide"`` if it exists.
    slide
        Slide to draw. By default the first by name.
    n_cols
        Panels per row.
    ax
        Axes to draw on instead of a new figure: R + 3 for R recycles, or R + 2 if the truth is unknown. Legend and figure
        title are then left out.
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
        If ``obsm["X_ipar_recycles"]``, the slide column, or the column to colour by is missing.
    ValueError
        If the slide is unknown, coordinates have the wrong shape or none is finite, or the number of axes is wrong.
    """
    stored, finished = (layout(adata, key, "ipar.tl.predict_coords") for key in (RECYCLES, COORDS))
    names = ["initial guess", *(f"recycle {number}" for number in range(1, stored.shape[1] // 2))]
    panels = {name: stored[:, 2 * place : 2 * place + 2] for place, name in enumerate(names)}
    layouts = collect_layouts(
        adata,
        panels | {"finished layout": finished},
        spatial_key=spatial_key,
        color=color,
        library_key=library_key,
        slide=slide,
    )
    figure = layouts.draw(ax, n_cols=n_cols, width=2.6)
    finish(ax=ax, show=show, return_fig=return_fig)
    return figure if return_fig else None
