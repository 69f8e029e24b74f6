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
    """Show the truth beside the prediction, every cell in the same colour in both.

    The prediction is carried onto the truth by the best rotation or reflection, scale and shift, since a layout has no
    orientation of its own. A prediction that has shrunk to the centre stays small: the scale is the one of least error. The title gives its
    error, the root mean squared distance from the truth in RMS radii: 0 is perfect, 1 is every cell at the centre.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`.
    color
        Column of ``obs`` to colour by. None: by position in the truth (in the prediction where the truth is unknown), blue
        to orange along one axis and dark to light along the other. Parts of the tissue that are mirrored, swapped or
        folded onto each other show as colours out of place, also to readers with a colour vision deficiency.
    use_rep
        Key in ``obsm`` of the predicted positions (n, 2).
    spatial_key
        Key in ``obsm`` of the true positions (n, 2). If it is absent or None, the prediction is drawn alone.
    library_key
        Column of ``obs`` with the slide of a cell. None: ``"slide"`` if there is one. Slides share no frame, so that one is
        drawn at a time.
    slide
        Slide to draw. None: the first by name; the title says which.
    ax
        Axes to draw on instead of a new figure: two, or one where the truth is unknown. Legend and title of the figure are
        then left out.
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
        Without ``obsm[use_rep]``, the slide column, or the column to colour by.
    ValueError
        For an unknown slide, coordinates of a wrong shape, no finite ones, or a wrong number of axes.
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
