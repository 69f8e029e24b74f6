"""Colours of cells: by position in two dimensions, or by a column of ``obs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, is_color_like, to_hex, to_rgba, to_rgba_array

from ipar.pl._figure import figure_of
from ipar.pl._style import Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# bottom left, bottom right, top left, top right: blue to orange along one axis, dark to light along the other. Both contrasts
# are visible with a red-green deficiency
_CORNERS = to_rgba_array(["#342a86", "#8f3a00", "#46b9ef", "#f4d63a"])[:, :3]
_CATEGORIES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
_MISSING = "#D9D9D9"
_KEY_ROWS = 24


@dataclass(frozen=True)
class CellColors:
    """RGBA of each cell, and named colours or a colour scale for a legend."""

    rgba: NDArray[np.float64]  # (n, 4)
    title: str = ""
    named: dict[str, Any] | None = None
    scale: ScalarMappable | None = None


def position_colors(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colour cells by position in the layout: (n, 2) → RGBA (n, 4).

    Colours are bilinear in four corner colours, over the box between the 1st and 99th percentiles. A mirrored layout
    exchanges dark and light, or blue and orange.
    """
    low, high = np.percentile(xy, [1, 99], axis=0)
    u, v = np.clip((xy - low) / np.maximum(high - low, 1e-12), 0.0, 1.0).T[:, :, None]
    bottom = (1 - u) * _CORNERS[0] + u * _CORNERS[1]
    top = (1 - u) * _CORNERS[2] + u * _CORNERS[3]
    return np.column_stack([(1 - v) * bottom + v * top, np.ones(len(xy))])


def value_colors(
    adata: AnnData, color: str, rows: NDArray[np.intp], style: Style | None = None, layer: str | None = None
) -> CellColors:
    """Colour `rows` by ``obs[color]`` or the expression of a gene: numbers by a colour map, other values by category.

    Colours of categories are kept in ``uns``, as scanpy keeps them, unless they are there.
    """
    style = style or Style()
    column = _column(adata, color, layer)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)[rows]
        known = values[np.isfinite(values)]
        limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        colormap = style.numbers()
        colormap = colormaps[colormap] if isinstance(colormap, str) else colormap
        scale = ScalarMappable(Normalize(*limits), colormap.with_extremes(bad=_MISSING))
        return CellColors(scale.to_rgba(np.ma.masked_invalid(values)), color, scale=scale)
    categories = column.astype("category").cat
    table = _category_colors(adata, color, [str(one) for one in categories.categories], style)
    lookup = np.vstack([table, to_rgba(_MISSING)])  # the last row is for code −1, a missing label
    codes = categories.codes.to_numpy()[rows]
    named = {str(categories.categories[code]): table[code] for code in np.unique(codes[codes >= 0])}
    return CellColors(lookup[codes], color, named=named)


def _column(adata: AnnData, color: str, layer: str | None) -> pd.Series[Any]:
    """A column of ``obs``, or the expression of a gene."""
    if color in adata.obs:
        column: pd.Series[Any] = adata.obs[color]
        return column
    if color not in adata.var_names:
        msg = (
            f"{color!r} is neither a column of adata.obs, found {list(adata.obs)}, nor a gene of adata.var_names: pass one of "
            "these as color, or None to colour by position."
        )
        raise KeyError(msg)
    if layer is not None and layer not in adata.layers:
        msg = f"adata.layers has no {layer!r}, found {sorted(adata.layers)}: name one of these as layer."
        raise KeyError(msg)
    values = adata.obs_vector(color, layer=layer)
    return pd.Series(np.asarray(values, dtype=np.float64), index=adata.obs_names)


def _category_colors(adata: AnnData, column: str, names: list[str], style: Style) -> NDArray[np.float64]:
    """RGBA of categories: the given ones, those that are stored, or new ones, which are then stored."""
    given = style.colors(names, column)
    stored = stored_colors(adata, column, names) if given is None else given
    table = palette(len(names), stored)
    if given is not None or stored is None:
        keep_colors(adata, column, table)
    return table


def keep_colors(adata: AnnData, column: str, colors: Iterable[Any]) -> None:
    """Store the colours of the categories of a column where scanpy keeps them; a view stays one."""
    if not adata.is_view:
        adata.uns[f"{column}_colors"] = [to_hex(color) for color in colors]


def stored_colors(adata: AnnData, column: str, names: Sequence[Any]) -> list[Any] | None:
    """Colours that scanpy stores of the categories of a column: in their order, or by name; None if some have none."""
    key = f"{column}_colors"
    stored = adata.uns.get(key)
    if isinstance(stored, Mapping):
        stored = [stored.get(str(name)) for name in names]
    if stored is not None and (isinstance(stored, str) or not isinstance(stored, Sequence | np.ndarray)):
        msg = (
            f"adata.uns[{key!r}] must hold a colour for each of {len(names)} labels, found {type(stored).__name__}: store a list "
            "or a dictionary, or delete this entry."
        )
        raise TypeError(msg)
    if stored is None or len(stored) < len(names) or any(one is None for one in stored):
        return None
    colors = list(stored)[: len(names)]
    if bad := [one for one in colors if not is_color_like(one)]:
        msg = (
            f"adata.uns[{key!r}] has {bad[0]!r}, which is no colour: store colours such as '#0072B2', or delete this entry "
            "for colours of ipar."
        )
        raise ValueError(msg)
    return colors


def palette(n: int, stored: Sequence[Any] | None) -> NDArray[np.float64]:
    """RGBA of `n` categories, (n, 4): those stored, if there are enough."""
    if stored is not None and len(stored) >= n:
        return to_rgba_array(list(stored)[:n])
    if n <= len(_CATEGORIES):
        return to_rgba_array(_CATEGORIES[:n])
    many = _many_colors(n)
    return np.asarray(colormaps["turbo"](np.linspace(0, 1, n))) if many is None else to_rgba_array(many[:n])


def _many_colors(n: int) -> Sequence[Any] | None:
    """Colours of more categories than are safe for all readers, those of scanpy where it is installed; None for too many."""
    known: list[Sequence[Any]]
    if find_spec("scanpy") is not None:
        from scanpy.plotting import palettes

        known = [palettes.default_20, palettes.default_28, palettes.default_102]
    else:
        known = [[one for name in ("tab20", "tab20b", "tab20c") for one in colormaps[name](np.arange(20))]]
    return next((colors for colors in known if n <= len(colors)), None)


def colorings(color: str | Sequence[str] | None) -> list[str | None]:
    """What to colour by, one at a time: a column or gene, each of several, or None for positions.

    Raises
    ------
    ValueError
        If the list is empty.
    """
    if color is None or isinstance(color, str):
        return [color]
    if not len(color):
        msg = "color is an empty list: name columns of adata.obs or genes, or pass None to colour by position."
        raise ValueError(msg)
    return list(color)


def cell_colors(
    adata: AnnData,
    color: str | None,
    rows: NDArray[np.intp],
    xy: NDArray[np.float64],
    style: Style | None = None,
    layer: str | None = None,
) -> CellColors:
    """Colour `rows` by ``obs[color]`` or a gene, or by position in `xy` for None."""
    return CellColors(position_colors(xy)) if color is None else value_colors(adata, color, rows, style, layer)


def key_columns(colors: CellColors) -> int:
    """Columns of the legend, one for a colour bar."""
    return max(-(-len(colors.named or ()) // _KEY_ROWS), 1)


def key_height(colors: CellColors) -> float:
    """Height of the legend in inches."""
    return 0.18 * (min(len(colors.named), _KEY_ROWS) + 1) if colors.named else 0.0


def key_width(colors: CellColors) -> float:
    """About the width of the legend or colour bar in inches."""
    if colors.named is None:
        return 0.1 if colors.scale is None else 0.9
    return 0.1 + key_columns(colors) * (0.35 + 0.068 * max(map(len, [colors.title, *colors.named])))


def add_key(axes: Sequence[Axes], colors: CellColors, *, of_row: bool = False) -> None:
    """Add the legend or colour bar of `colors`, if any, to a figure, or to a row of panels of a figure with several."""
    from matplotlib.lines import Line2D

    if colors.scale is not None:
        beside = axes[-1] if of_row else list(axes)
        bar = figure_of(axes).colorbar(colors.scale, ax=beside, label=colors.title, shrink=0.7, aspect=25)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
    elif colors.named is not None:
        handles = [
            Line2D([], [], linestyle="", marker="o", markersize=5, color=color, label=name)
            for name, color in colors.named.items()
        ]
        style: dict[str, Any] = {"title": colors.title, "frameon": False, "fontsize": 8, "ncols": key_columns(colors)}
        if of_row:
            axes[-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), **style)
        else:
            figure_of(axes).legend(handles=handles, loc="outside right center", **style)
