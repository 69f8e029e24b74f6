"""Layouts of the same cells side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize

from ipar._anndata import COORDS, RECYCLES
from ipar._docs import shared_docs
from ipar._options import Count, Positive
from ipar._public import public
from ipar.metrics import cell_errors, procrustes_align, procrustes_error
from ipar.pl._colors import CellColors, add_key, cell_colors, colorings, key_height, key_width
from ipar.pl._figure import figure_of, finish, get_panels, linked, panel_height
from ipar.pl._image import Image, draw_below, image_below
from ipar.pl._read import layout, read_slide, slides_of
from ipar.pl._style import Palette, Style, draw_scale, unit_length

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@public
@shared_docs
def coords(
    adata: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    use_rep: str = COORDS,
    spatial_key: str | None = "spatial",
    layer: str | None = None,
    library_key: str | None = None,
    slide: str | None = None,
    error: bool = False,
    img: bool | None = None,
    library_id: str | None = None,
    unit: Positive | None = None,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    palette: Palette | None = None,
    cmap: str | Colormap | None = None,
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
        Column of ``obs``, or gene, to colour by, or a list of these: one row of panels for each. Colours of categories are
        those of ``uns[color + "_colors"]``, and are written there if missing. By default, cells are coloured by true
        position, or by predicted position if the truth is unknown.
    use_rep
        Key in ``obsm`` of the predicted coordinates (n, 2).
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). If it is missing or None, only the prediction is drawn.
    %(color_layer)s
    %(slide)s
    error
        Also draw the distance of each cell from its true position, in RMS radii.
    %(img)s
    %(unit)s
    %(style)s
    ax
        Axes to draw on instead of a new figure: as many as there are panels, row by row. Legend and figure title are then
        left out.
    %(show)s
    %(figure)s

    Notes
    -----
    One slide is drawn at a time, because slides share no frame. Colours by position run from blue to orange along one axis
    and from dark to light along the other. Parts of the tissue that are mirrored, swapped or folded onto each other
    show as colours out of place. A prediction that has shrunk to the centre stays small.
    """
    style = Style(size, frameon, title, palette, cmap)
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    known = {"prediction": layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]}
    panels = Panels.of(adata, known, **keys)
    image = None if panels.truth is None else _image(adata, img, library_id, library_key, panels)
    if error and panels.truth is None:
        msg = f"error needs true coordinates, and adata.obsm has no {spatial_key!r}: name their key as spatial_key."
        raise KeyError(msg)
    colors = [cell_colors(adata, one, panels.rows, panels.last, style, layer) for one in colorings(color)]
    figure = panels.draw(colors, ax, style, width=3.6, error=error, unit=unit_length(adata, unit), image=image)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


def _image(
    adata: AnnData, img: bool | None, library_id: str | None, library_key: str | None, panels: Panels
) -> Image | None:
    """The image below the true positions of the slide that is drawn."""
    return image_below(adata, img, library_id, panels.rows, slides_of(adata, library_key))


@public
@shared_docs
def coord_progression(
    adata: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    spatial_key: str | None = "spatial",
    layer: str | None = None,
    library_key: str | None = None,
    slide: str | None = None,
    n_cols: Count = 4,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    palette: Palette | None = None,
    cmap: str | Colormap | None = None,
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
    %(color)s
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). If it is missing or None, the truth is not drawn.
    %(color_layer)s
    %(slide)s
    n_cols
        Panels per row. With a list of colours, each has one row.
    %(style)s
    ax
        Axes to draw on instead of a new figure: R + 3 for R recycles, or R + 2 if the truth is unknown. Legend and figure
        title are then left out.
    %(show)s
    %(figure)s
    """
    style = Style(size, frameon, title, palette, cmap)
    stored, finished = (layout(adata, key, "ipar.tl.predict_coords") for key in (RECYCLES, COORDS))
    names = ["initial guess", *(f"recycle {number}" for number in range(1, stored.shape[1] // 2))]
    known = {name: stored[:, 2 * place : 2 * place + 2] for place, name in enumerate(names)}
    keys = {"spatial_key": spatial_key, "library_key": library_key, "slide": slide}
    panels = Panels.of(adata, known | {"finished layout": finished}, **keys)
    colors = [cell_colors(adata, one, panels.rows, panels.last, style, layer) for one in colorings(color)]
    figure = panels.draw(colors, ax, style, n_cols=n_cols if len(colors) == 1 else None, width=2.6)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


@dataclass(frozen=True)
class Panels:
    """Layouts of one slide, aligned with the truth if that is known.

    Attributes
    ----------
    rows
        Its cells.
    slide
        Its name, where there are several.
    truth
        True positions of its cells, ``(n, 2)``; None if unknown.
    layouts
        Predicted layouts by name, ``(n, 2)``.
    errors
        Of each, the root mean squared distance from the truth.
    """

    rows: NDArray[np.intp]
    slide: str | None
    truth: NDArray[np.float64] | None
    layouts: dict[str, NDArray[np.float64]]
    errors: dict[str, float]

    @classmethod
    def of(cls, adata: AnnData, layouts: dict[str, NDArray[np.float64]], **keys: str | None) -> Panels:
        """Read layouts ``(n_obs, 2)`` and the truth."""
        rows, slide, truth = read_slide(adata, *layouts.values(), **keys)
        own = {name: xy[rows] for name, xy in layouts.items()}
        if truth is None:
            return cls(rows, slide, None, own, {})
        target = truth[rows]
        errors = {name: procrustes_error(target, xy).rmse for name, xy in own.items()}
        return cls(rows, slide, target, {name: procrustes_align(target, xy) for name, xy in own.items()}, errors)

    @property
    def last(self) -> NDArray[np.float64]:
        """What cells are coloured by position in."""
        return list(self.layouts.values())[-1] if self.truth is None else self.truth

    def draw(
        self,
        colors: Sequence[CellColors],
        ax: AxesLike | None,
        style: Style,
        *,
        width: float,
        n_cols: int | None = None,
        error: bool = False,
        unit: float | None = None,
        image: Image | None = None,
    ) -> Figure:
        """Draw all layouts to one scale, a row for every colouring, or rows of ``n_cols`` panels of a single one.

        An image lies below the truth.
        """
        maps = ({} if self.truth is None else {"truth": self.truth}) | self.layouts
        everything = np.concatenate(list(maps.values()))
        titles = [f"{name} (error {self.errors[name]:.2f})" if name in self.errors else name for name in maps]
        titles = (titles + ["error"] * error) * len(colors)
        n_cols, margin = n_cols or len(maps) + error, max(map(key_width, colors)) + 0.8 * error
        height = max(panel_height(everything, width), *(key_height(one) for one in colors if len(colors) > 1), 0.0)
        axes = get_panels(ax, titles, (width, height), n_cols=n_cols, margin=margin)
        linked(axes)
        each = len(axes) // len(colors)
        for i, own in enumerate(colors):
            row = axes[i * each : (i + 1) * each]
            for panel, (name, xy) in zip(row, maps.items(), strict=False):
                style.map(panel, everything)
                style.dots(panel, xy, c=own.rgba, label=name)
            if error:
                self._draw_error(row[-1], everything, style, bar=ax is None)
            if ax is None:
                add_key(row[: len(maps)], own, of_row=len(colors) > 1)
        if image is not None:
            for panel in axes[::each]:
                draw_below(panel, image)
        if self.truth is not None:
            draw_scale(axes[0], everything, unit)
        style.name(axes, titles)
        if ax is None:
            style.heading(axes, self.slide, len(axes))
        return figure_of(axes)

    def _draw_error(self, ax: Axes, everything: NDArray[np.float64], style: Style, *, bar: bool) -> None:
        """The last layout, coloured by the distance of each cell from its true position."""
        assert self.truth is not None
        xy = list(self.layouts.values())[-1]
        errors = cell_errors(self.truth, xy)
        scale = ScalarMappable(Normalize(0.0, float(max(np.percentile(errors, 99), 1e-12))), style.numbers("magma_r"))
        style.map(ax, everything)
        style.dots(ax, xy, c=scale.to_rgba(errors), label="error")
        if bar:
            found = figure_of([ax]).colorbar(scale, ax=ax, label="RMS radii", shrink=0.7, aspect=25, extend="max")
            found.outline.set_visible(False)
            found.ax.tick_params(labelsize=8)
