from __future__ import annotations

from typing import TYPE_CHECKING

from ipar.pl._figure import finish
from ipar.pl._layouts import collect_layouts
from ipar.pl._read import layout

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from ipar.pl._figure import AxesLike


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
    library_key
        Column of ``obs`` with the slide of each cell. By default ``"slide"`` if it exists.
    slide
        Slide to draw. By default the first by name.
    ax
        Two axes to draw on instead of a new figure, or one if the truth is unknown. Legend and figure title are then
        left out.
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
        If ``obsm[use_rep]``, the slide column, or the column to colour by is missing.
    ValueError
        If the slide is unknown, coordinates have the wrong shape or none is finite, or the number of axes is wrong.

    Notes
    -----
    One slide is drawn at a time, because slides share no frame. Colours by position run from blue to orange along one axis
    and from dark to light along the other. Parts of the tissue that are mirrored, swapped or folded onto each other
    show as colours out of place. A prediction that has shrunk to the centre stays small.
    """
    predicted = layout(adata, use_rep, "ipar.tl.predict_coords")
    layouts = collect_layouts(
        adata,
        {"prediction": predicted[:, :2]},
        spatial_key=spatial_key,
        color=color,
        library_key=library_key,
        slide=slide,
    )
    figure = layouts.draw(ax, n_cols=2, width=3.6)
    finish(ax=ax, show=show, return_fig=return_fig)
    return figure if return_fig else None
