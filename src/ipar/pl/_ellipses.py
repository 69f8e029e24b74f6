from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Colormap

from ipar._anndata import ELLIPSE, ELLIPSE_COLUMNS
from ipar._docs import shared_docs
from ipar._options import Positive
from ipar._public import public
from ipar.pl._colors import add_key, cell_colors, colorings, key_height, key_width
from ipar.pl._figure import figure_of, finish, get_panels, linked, panel_height
from ipar.pl._read import cells_of_slide, finite_rows, stored_array
from ipar.pl._style import Palette, Style, draw_scale, unit_length

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_REMEDIES = {"spatial": "store the coordinates there", "X_ipar": "run ipar.tl.sample_coords first"}


@public
@shared_docs
def ellipses(
    adata: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    ellipse_key: str = ELLIPSE,
    use_rep: str = "spatial",
    n_sd: Positive = 1.0,
    library_key: str | None = None,
    slide: str | None = None,
    layer: str | None = None,
    unit: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    palette: Palette | None = None,
    cmap: str | Colormap | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the ellipse of each cell.

    Parameters
    ----------
    adata
        Cells with ellipses in two dimensions. Measured ones come from :func:`ipar.pp.cell_ellipses`. For predicted ones
        from :func:`ipar.tl.sample_coords`, pass ``ellipse_key="X_ipar_ellipse", use_rep="X_ipar"``.
    %(color)s
    ellipse_key
        Key in ``obsm`` of the ellipses (n, 5), in the units of `use_rep`.
    use_rep
        Key in ``obsm`` of the coordinates (n, 2).
    n_sd
        Semi-axes in standard deviations. 2 is the outline of a filled cell.
    %(slide)s
    %(color_layer)s
    %(unit)s
    %(map_style)s
    ax
        Axes to draw on instead of a new figure, one per colour.
    %(show)s
    %(figure)s
    """
    style = Style(None, frameon, title, palette, cmap)
    table = _columns(adata, ellipse_key, len(ELLIPSE_COLUMNS[2]), "run ipar.pp.cell_ellipses first")
    places = _columns(adata, use_rep, 2, _REMEDIES.get(use_rep, "pass the key of the coordinates as use_rep"))
    rows, name = cells_of_slide(adata, library_key, slide)
    rows = finite_rows(rows, places, table)
    centres = places[rows] + table[rows, :2]
    colors = [cell_colors(adata, one, rows, places[rows], style, layer) for one in colorings(color)]
    names, keys = [one.title for one in colors], sum(map(key_width, colors))
    size = (4.2, max(panel_height(centres, 4.2), *(key_height(one) for one in colors if len(colors) > 1), 0.0))
    axes = get_panels(ax, names, size, n_cols=len(colors), margin=keys)
    linked(axes)
    for panel, own in zip(axes, colors, strict=True):
        _draw_ellipses(panel, centres, n_sd * table[rows, 2:4], table[rows, 4], own.rgba, style)
        if ax is None:
            add_key([panel], own, of_row=len(colors) > 1)
    if use_rep == "spatial":
        draw_scale(axes[0], centres, unit_length(adata, unit))
    if title is not None or len(colors) > 1:
        style.name(axes, names)
    if ax is None:
        style.heading(axes, name, len(axes))
    return finish(figure_of(axes), ax=ax, show=show, return_fig=return_fig)


def _draw_ellipses(
    panel: Axes,
    centres: NDArray[np.float64],
    semi_axes: NDArray[np.float64],
    angles: NDArray[np.float64],
    rgba: NDArray[np.float64],
    style: Style,
) -> None:
    """Draw n ellipses on an axes and fit its view to them; angles in radians."""
    from matplotlib.collections import EllipseCollection

    reach = semi_axes.max()
    style.map(panel, np.vstack([centres - reach, centres + reach]))
    widths, heights = 2 * semi_axes.T
    panel.add_collection(
        EllipseCollection(
            widths,
            heights,
            np.degrees(angles),
            units="xy",
            offsets=centres,
            offset_transform=panel.transData,
            facecolors=np.column_stack([rgba[:, :3], np.full(len(rgba), 0.55)]),
            edgecolors=rgba,
            linewidths=0.6,
            label="ellipses",
            rasterized=len(centres) > 500,
        )
    )


def _columns(adata: AnnData, key: str, n_columns: int, remedy: str) -> NDArray[np.float64]:
    values = stored_array(adata, key, remedy)
    if values.shape != (adata.n_obs, n_columns):
        msg = (
            f"adata.obsm[{key!r}] has shape {values.shape}, expected (n_obs, {n_columns}): ellipses are drawn in the plane "
            "only; project ellipsoids first."
        )
        raise ValueError(msg)
    return values
