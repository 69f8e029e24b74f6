from __future__ import annotations

from typing import TYPE_CHECKING

from ipar._anndata import RECYCLES
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
    """Show the true layout, then the layout after each recycle, every cell in the same colour throughout.

    Each layout is carried onto the truth by its own best rotation or reflection, scale and shift; where the truth is
    unknown, the layouts stay as they were stored, aligned to the last one. All panels have one scale. The titles give
    the error, the root mean squared distance from the truth in RMS radii: 0 is perfect, 1 is every cell at the
    centre.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`, which stores the layouts in ``obsm["X_ipar_recycles"]``, shape
        (n, 2(R+1)): the initial guess, then one layout for each of the R recycles.
    color
        Column of ``obs`` to colour by. None: by position in the truth (in the last layout where the truth is unknown), as
        in :func:`ipar.pl.coords`.
    spatial_key
        Key in ``obsm`` of the true positions (n, 2). If it is absent or None, there is no panel of the truth.
    library_key
        Column of ``obs`` with the slide of a cell. None: ``"slide"`` if there is one. Slides share no frame, so that one is
        drawn at a time.
    slide
        Slide to draw. None: the first by name; the title says which.
    n_cols
        Panels in a row. Four put the seven panels of five recycles in two rows that fit a page.
    ax
        Axes to draw on instead of a new figure: R + 2 of them, or R + 1 where the truth is unknown. Legend and title of
        the figure are then left out.
    show
        Call :func:`matplotlib.pyplot.show`. None: only if neither `ax` nor `return_fig` is given.
    return_fig
        Return the figure.

    Returns
    -------
    matplotlib.figure.Figure or None
        The figure, if `return_fig`.

    Raises
    ------
    KeyError
        Without ``obsm["X_ipar_recycles"]``, the slide column, or the column to colour by.
    ValueError
        For an unknown slide, coordinates of a wrong shape, no finite ones, or a wrong number of axes.
    """
    stored = layout(adata, RECYCLES, "ipar.tl.predict_coords")
    names = ["initial guess", *(f"recycle {number}" for number in range(1, stored.shape[1] // 2))]
    layouts = collect_layouts(
        adata,
        {name: stored[:, 2 * place : 2 * place + 2] for place, name in enumerate(names)},
        spatial_key=spatial_key,
        color=color,
        library_key=library_key,
        slide=slide,
    )
    figure = layouts.draw(ax, n_cols=n_cols, width=2.6)
    finish(ax=ax, show=show, return_fig=return_fig)
    return figure if return_fig else None
