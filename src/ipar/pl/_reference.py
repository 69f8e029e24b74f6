"""Cells over the section that they were placed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Colormap, to_hex

from ipar._anndata import COORDS, reference_key
from ipar._docs import shared_docs
from ipar._options import Positive
from ipar._public import public
from ipar.pl._colors import (
    CellColors,
    add_key,
    cell_colors,
    colorings,
    keep_colors,
    key_height,
    key_width,
    palette,
    stored_colors,
    value_colors,
)
from ipar.pl._figure import GREY, dots, figure_of, finish, get_panels, linked, panel_height
from ipar.pl._image import draw_below, image_below
from ipar.pl._read import finite_rows, layout, true_positions
from ipar.pl._style import Palette, Style, draw_scale, unit_length

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@public
@shared_docs
def on_reference(
    cells: AnnData,
    section: AnnData,
    color: str | Sequence[str] | None = None,
    *,
    use_rep: str = reference_key(COORDS),
    spatial_key: str = "spatial",
    img: bool | None = None,
    library_id: str | None = None,
    groups: list[str] | None = None,
    layer: str | None = None,
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
    """Plot cells over the section that they were placed on.

    Parameters
    ----------
    cells
        Cells after ``ipar.tl.predict_coords(cells, model, reference=...)``.
    section
        The reference slide, drawn in grey below the cells, or its tissue image where there is one.
    color
        Column of ``cells.obs``, or gene, to colour by (default: by position), or a list of these: one row of panels for
        each. If ``section.obs`` has the column too, the section is drawn beside the cells, coloured by it, and one legend
        names the labels of both.
    use_rep
        Key in ``cells.obsm`` of the coordinates (n, 2) in the frame of the section.
    spatial_key
        Key in ``section.obsm`` of its coordinates (m, 2).
    img
        Draw the image of the section: that of ``section.uns["spatial"]``, as scanpy and squidpy store it, or that of a
        SpatialData, by spatialdata-plot (default: if there is one).
    library_id
        Key in ``section.uns["spatial"]`` of the image, or name of an image of a SpatialData (default: the first).
    groups
        Categories of `color` to draw (default: all). Other cells are left out, and other places of the section are grey.
    layer
        Layer of `cells` with the expression of a gene that is coloured by (default: ``X``).
    unit
        Micrometres per unit of the coordinates of the section, for a scale bar (default: as recorded for Visium and simulated
        slides).
    %(style)s
    ax
        Axes to draw on instead of a new figure, as many as there are panels. Legend and figure title are then left out.
    %(show)s
    %(figure)s
    """
    style = Style(size, frameon, title, palette, cmap)
    places = true_positions(section, spatial_key)
    if places is None:
        msg = f"section.obsm has no {spatial_key!r}: name the key of its coordinates as spatial_key."
        raise KeyError(msg)
    xy = layout(cells, use_rep, "ipar.tl.predict_coords(cells, model, reference=...)")[:, :2]
    given = colorings(color)
    rows = finite_rows(_chosen(cells, section, given, groups), xy)
    image = image_below(section, img, library_id, np.arange(section.n_obs))
    drawn = [_Coloring.of(cells, section, one, rows, xy[rows], groups, style, layer) for one in given]
    everything, width = np.concatenate([places, xy[rows]]), 4.2
    beside = any(one.section is not None for one in drawn)
    names = [name for one in drawn for name in one.names(beside=beside)]
    keys = [one.cells for one in drawn]
    panel = (width, max(panel_height(everything, width), *map(key_height, keys), 0.0))
    axes = get_panels(ax, names, panel, n_cols=1 + beside, margin=max(map(key_width, keys)))
    linked(axes)
    style.name(axes, [name for name in names if name is not None])
    for one in axes:
        style.map(one, everything)
        if image is not None:
            draw_below(one, image)
    rest = iter(axes)
    for coloring in drawn:
        row = [next(rest) for _ in range(1 + (coloring.section is not None))]
        if coloring.section is not None:
            style.dots(row[0], places, c=coloring.section, label="section")
        if image is None:
            dots(row[-1], places, color=GREY, alpha=0.5, label="section")
        style.dots(row[-1], xy[rows], c=coloring.cells.rgba, label="cells")
        if ax is None:
            add_key(row, coloring.cells, of_row=len(drawn) > 1)
    draw_scale(axes[0], everything, unit_length(section, unit))
    if ax is None:
        style.heading(axes, None, len(axes))
    return finish(figure_of(axes), ax=ax, show=show, return_fig=return_fig)


@dataclass(frozen=True)
class _Coloring:
    """Colours of the cells that are drawn and, if it has the column too, of the places of the section."""

    color: str | None
    cells: CellColors
    section: NDArray[np.float64] | None

    @classmethod
    def of(
        cls,
        cells: AnnData,
        section: AnnData,
        color: str | None,
        rows: NDArray[np.intp],
        xy: NDArray[np.float64],
        groups: list[str] | None,
        style: Style,
        layer: str | None,
    ) -> _Coloring:
        """Those of a column, a gene, or of positions."""
        if color is None or color not in section.obs:
            return cls(color, cell_colors(cells, color, rows, xy, style, layer), None)
        return cls(color, *_together(cells, section, color, rows, groups, style))

    def names(self, *, beside: bool) -> list[str | None]:
        """Titles of its panels; one of two places is left empty, if there is no section beside these cells."""
        own = f"{len(self.cells.rgba)} cells"
        if self.section is None:
            return [own, None] if beside else [own]
        return ["section", own]


def _chosen(cells: AnnData, section: AnnData, given: list[str | None], groups: list[str] | None) -> NDArray[np.intp]:
    """Rows of the groups asked for."""
    if groups is None:
        return np.arange(cells.n_obs)
    color = given[0] if len(given) == 1 else None
    if color is None or color not in cells.obs:
        msg = f"groups needs a column of cells.obs as color, found {given}: name the column that holds the groups."
        raise ValueError(msg)
    labels = cells.obs[color].astype(str)
    known = set(labels) | (set(_labels(section, color)) if color in section.obs else set())
    unknown = sorted(set(map(str, groups)) - known)
    if unknown:
        msg = f"obs[{color!r}] has no {unknown[0]!r}, found {sorted(known)}: name some of these as groups."
        raise ValueError(msg)
    return np.flatnonzero(labels.isin([str(group) for group in groups]))


def _together(
    cells: AnnData, section: AnnData, color: str, rows: NDArray[np.intp], groups: list[str] | None, style: Style
) -> tuple[CellColors, NDArray[np.float64]]:
    """Colours of some cells, with a key to both, and of all places of the section; a label has one colour, which is kept."""
    import anndata as ad
    import pandas as pd

    columns, names = [cells.obs[color].iloc[rows], section.obs[color]], list[str]()
    uns = {}
    if not all(pd.api.types.is_numeric_dtype(column) for column in columns):
        names = list(dict.fromkeys([*_labels(cells, color), *_labels(section, color)]))
        uns[f"{color}_colors"] = _colors_of(names, _stored(section, color) | _stored(cells, color))
        shown = names if groups is None else list(map(str, groups))
        columns = [column.astype(str).where(column.notna() & column.astype(str).isin(shown)) for column in columns]
        columns = [pd.Series(pd.Categorical(column, categories=names)) for column in columns]
    obs = pd.DataFrame({color: pd.concat(columns, ignore_index=True)}).rename(index=str)
    whole = ad.AnnData(obs=obs, uns=uns)
    colors = value_colors(whole, color, np.arange(len(obs)), style)
    chosen = dict(zip(names, whole.uns.get(f"{color}_colors", ()), strict=False))
    for adata in (cells, section):
        own = _labels(adata, color) if chosen else []
        if own and (style.palette is not None or stored_colors(adata, color, own) is None):
            keep_colors(adata, color, [chosen[name] for name in own])
    return replace(colors, rgba=colors.rgba[: len(rows)]), colors.rgba[len(rows) :]


def _labels(adata: AnnData, color: str) -> list[str]:
    """Labels of a column in their order."""
    return [str(name) for name in adata.obs[color].astype("category").cat.categories]


def _stored(adata: AnnData, color: str) -> dict[str, Any]:
    """Colours of labels where scanpy keeps them."""
    names = _labels(adata, color)
    stored = stored_colors(adata, color, names)
    return {} if stored is None else dict(zip(names, stored, strict=True))


def _colors_of(names: list[str], stored: dict[str, Any]) -> list[Any]:
    """The stored colours of labels; the others get some that are still free."""
    used = {to_hex(one) for one in stored.values()}
    free = (one for one in [*palette(len(names), None), *palette(60, None)] if to_hex(one) not in used)
    return [stored[name] if name in stored else next(free) for name in names]
