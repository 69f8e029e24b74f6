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
    keep_colors,
    key_height,
    key_width,
    palette,
    stored_colors,
    value_colors,
)
from ipar.pl._figure import GREY, dots, figure_of, finish, get_panels, linked, panel_height
from ipar.pl._read import finite_rows, layout, true_positions
from ipar.pl._style import Palette, Style, draw_scale, unit_length

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@public
@shared_docs
def on_reference(
    cells: AnnData,
    section: AnnData,
    color: str | None = None,
    *,
    use_rep: str = reference_key(COORDS),
    spatial_key: str = "spatial",
    library_id: str | None = None,
    image: bool = True,
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
        Column of ``cells.obs``, or gene, to colour by (default: by position). If ``section.obs`` has the column too, the section is
        drawn beside the cells, coloured by it, and one legend names the labels of both.
    use_rep
        Key in ``cells.obsm`` of the coordinates (n, 2) in the frame of the section.
    spatial_key
        Key in ``section.obsm`` of its coordinates (m, 2).
    library_id
        Key in ``section.uns["spatial"]`` of its image, as scanpy and squidpy store it (default: the first).
    image
        Draw the image, if there is one.
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
    rows = finite_rows(_chosen(cells, section, color, groups), xy)
    tissue = _Tissue.of(section, library_id) if image else None
    everything = np.concatenate([places, xy[rows]])
    both = color is not None and color in section.obs
    names = [*(["section"] if both else []), f"{len(rows)} cells"]
    width = 4.2
    if both:
        colors, beside = _together(cells, section, str(color), rows, groups, style)
    else:
        colors = cell_colors(cells, color, rows, xy[rows], style, layer)
    panel_size = (width, max(panel_height(everything, width), key_height(colors)))
    axes = get_panels(ax, names, panel_size, n_cols=2, margin=key_width(colors))
    linked(axes)
    style.name(axes, names)
    for panel in axes:
        style.map(panel, everything)
        if tissue is not None:
            tissue.draw(panel)
    if both:
        style.dots(axes[0], places, c=beside, label="section")
    if tissue is None:
        dots(axes[-1], places, color=GREY, alpha=0.5, label="section")
    style.dots(axes[-1], xy[rows], c=colors.rgba, label="cells")
    draw_scale(axes[0], everything, unit_length(section, unit))
    if ax is None:
        add_key(axes, colors)
        style.heading(axes, None, len(axes))
    return finish(figure_of(axes), ax=ax, show=show, return_fig=return_fig)


def _chosen(cells: AnnData, section: AnnData, color: str | None, groups: list[str] | None) -> NDArray[np.intp]:
    """Rows of the groups asked for."""
    if groups is None:
        return np.arange(cells.n_obs)
    if color is None or color not in cells.obs:
        msg = f"groups needs a column of cells.obs as color, found {color!r}: name the column that holds the groups."
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


@dataclass(frozen=True)
class _Tissue:
    """The image of a section, and how many of its pixels a unit of coordinates has."""

    pixels: NDArray[Any]
    scale: float

    @classmethod
    def of(cls, section: AnnData, library_id: str | None) -> _Tissue | None:
        """The image as scanpy and squidpy store it, None without one."""
        known = section.uns.get("spatial", {})
        if library_id is not None and library_id not in known:
            msg = f"section.uns['spatial'] has no {library_id!r}, found {list(known)}: name one of these as library_id."
            raise KeyError(msg)
        own = known.get(library_id or next(iter(known), None), {})
        for name in ("hires", "lowres"):
            if name in own.get("images", {}):
                return cls(np.asarray(own["images"][name]), float(own["scalefactors"][f"tissue_{name}_scalef"]))
        return None

    def draw(self, ax: Axes) -> None:
        """Below the cells, with rows of pixels running down."""
        height, width = self.pixels.shape[:2]
        limits = ax.get_xlim(), ax.get_ylim()
        extent = (0, width / self.scale, height / self.scale, 0)
        ax.imshow(self.pixels, extent=extent, cmap="gray" if self.pixels.ndim == 2 else None, zorder=0)
        ax.set(xlim=limits[0], ylim=limits[1][::-1])
