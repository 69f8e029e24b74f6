from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.lines import Line2D

from ipar._docs import shared_docs
from ipar._options import Count, Natural, Positive
from ipar._public import public
from ipar.pl._figure import GREEN, dot_size, dots, figure_of, finish, get_panels, panel_height
from ipar.pl._focus import Focus, choose_numbers, choose_queries, read_focus
from ipar.pl._style import Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_RED, _PALE = "#E31A1C", "#CCCCCC"
# without its palest tenth, YlOrRd is visible on white
_COLORMAP = ListedColormap(colormaps["YlOrRd"](np.linspace(0.1, 1.0, 256)), name="YlOrRd")


@public
@shared_docs
def attention_focus(
    adata: AnnData,
    query: int | str | Sequence[int | str] | None = None,
    *,
    spatial_key: str | None = "spatial",
    recycles: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    n_top: Natural = 5,
    n_neighbors: Count = 20,
    crop: bool = True,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> list[Figure] | None:
    r"""Plot the attention of single cells: one figure per query, one row per recycle, one column per head.

    Every panel shows the cells that the network read together with the query. The query :math:`i` is a red star.
    Candidates are yellow to red by the attention :math:`a_{ij}^h` that they receive; other cells are grey. Red lines
    join the query to the `n_top` most attended candidates. Green rings mark the true neighbours, which attention should
    find. All panels share one scale.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`, which stores the attention of one query per quadrant, or after
        :func:`ipar.tl.attention`, which stores that of given cells.
    query
        Stored queries to draw, by name or by position in `adata`. By default all of them.
    spatial_key
        Key in ``obsm`` of the true coordinates (n, 2). Cells without one, or all with None, are drawn at
        ``obsm["X_ipar"]`` and without rings.
    recycles
        Recycles to draw, numbered from 1. By default all.
    heads
        Heads to draw, numbered from 1. By default all.
    n_top
        Number of candidates joined to the query by lines.
    n_neighbors
        Number of true neighbours with rings.
    crop
        Show only the part of the tissue with the candidates and the true neighbours.
    size
        Area of a dot in points² (default: dots almost touch).
    frameon
        Draw a frame around each map.
    title
        Title of the figures, or one title per figure (default: the query).
    cmap
        Colour map of attention (default: yellow to red).
    ax
        Axes to draw one query on instead of a new figure, one per recycle and head, row by row. Legend, colour bar and
        title are then left out.
    %(show)s
    return_fig
        Return the figures.

    Returns
    -------
    list of matplotlib.figure.Figure or None
        One figure per query, if `return_fig`.
    """
    foci = choose_queries(adata, read_focus(adata, spatial_key, n_neighbors), query)
    if ax is not None and len(foci) != 1:
        msg = f"ax takes the panels of one query, found {len(foci)} queries: pass query=, or leave ax=None."
        raise ValueError(msg)
    n_recycles, n_heads = foci[0].weights.shape[:2]
    rows = choose_numbers(recycles, n_recycles, "recycles")
    columns = choose_numbers(heads, n_heads, "heads")
    titles = [title] * len(foci) if title is None or isinstance(title, str) else list(title)
    if len(titles) != len(foci):
        msg = f"title has {len(titles)} titles, but this plot has {len(foci)} figures: give one for each, or a single text."
        raise ValueError(msg)
    figures = []
    for one, name in zip(foci, titles, strict=True):
        style, view = Style(size, frameon, name, cmap=cmap), one.view if crop else one.xy
        figures.append(_draw_query(one, rows, columns, n_top, view, ax, style))
    return finish(figures, ax=ax, show=show, return_fig=return_fig)


def _draw_query(
    focus: Focus,
    rows: list[int],
    columns: list[int],
    n_top: int,
    view: NDArray[np.float64],
    ax: AxesLike | None,
    style: Style,
) -> Figure:
    panels = [(row, column) for row in rows for column in columns]
    names = [f"recycle {row + 1}, head {column + 1}" for row, column in panels]
    axes = get_panels(ax, names, (2.4, panel_height(view, 2.4)), n_cols=len(columns), margin=1.0)
    shown = np.where(focus.candidates, focus.weights, 0.0)[np.ix_(rows, columns)]
    # the highest weights saturate: otherwise one peak makes all other candidates pale
    top = np.quantile(shown[..., focus.candidates], 0.995) if focus.candidates.any() else 0.0
    norm = Normalize(0.0, float(top) or 1.0)
    widest = float(shown.max()) or 1.0
    for panel, (row, column) in zip(axes, panels, strict=True):
        style.map(panel, view)
        _draw_panel(panel, focus, row, column, n_top, norm, widest, style)
    for panel, column in zip(axes, columns, strict=False):
        panel.set_title(f"head {column + 1}", fontsize=9)
    for panel, row in zip(axes[:: len(columns)], rows, strict=True):
        panel.set_ylabel(f"recycle {row + 1}", fontsize=9)
    if ax is None:
        _furnish(axes, focus, n_top, norm, style)
    return figure_of(axes)


def _draw_panel(
    ax: Axes, focus: Focus, recycle: int, head: int, n_top: int, norm: Normalize, widest: float, style: Style
) -> None:
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    size = style.size or dot_size(ax, int(((focus.xy >= low) & (focus.xy <= high)).all(axis=1).sum()))
    weights = focus.weights[recycle, head]
    others = ~focus.candidates
    others[focus.query] = False
    dots(ax, focus.xy[others], s=0.5 * size, color=_PALE, label="not a candidate")
    places = np.flatnonzero(focus.candidates)
    places = places[np.argsort(weights[places], kind="stable")]  # the most attended on top
    dots(
        ax,
        focus.xy[places],
        s=size,
        c=weights[places],
        cmap=style.numbers(_COLORMAP),
        norm=norm,
        label="candidates",
        zorder=2,
    )
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": GREEN, "linewidths": 0.8, "zorder": 4}
    if focus.known:
        dots(ax, focus.xy[focus.neighbors], s=max(2.0 * size, 12.0), label="true neighbours", **ring)
    top = focus.top(recycle, head, n_top)
    here = focus.xy[focus.query]
    lines = LineCollection(
        [np.stack([here, focus.xy[place]]) for place in top],
        colors=_RED,
        linewidths=[2.5 * weights[place] / widest for place in top],
        capstyle="round",
        zorder=3,
        label="top",
    )
    ax.add_collection(lines, autolim=False)
    star: dict[str, Any] = {"marker": "*", "color": _RED, "edgecolors": "white", "linewidths": 0.6, "zorder": 5}
    dots(ax, here[None, :], s=float(np.clip(12 * size, 45.0, 110.0)), label="query", **star)


def _furnish(axes: list[Axes], focus: Focus, n_top: int, norm: Normalize, style: Style) -> None:
    figure = figure_of(axes)
    where = "true positions" if focus.known else "predicted positions"
    title = f"Attention of {focus.name} ({where})" if style.title is None else str(style.title)
    figure.suptitle(title, fontsize=11)
    bar = figure.colorbar(
        ScalarMappable(norm, style.numbers(_COLORMAP)),
        ax=axes,
        extend="max",
        shrink=0.5,
        aspect=30,
        label="attention weight",
    )
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    blank: dict[str, Any] = {"linestyle": "", "markeredgewidth": 0}
    handles = [
        Line2D([], [], marker="*", markersize=10, color=_RED, label="query", **blank),
        Line2D([], [], color=_RED, linewidth=2, label=f"top {n_top}, width by weight"),
        Line2D([], [], marker="o", markersize=4, color=_PALE, label="not a candidate", **blank),
    ]
    if focus.known:
        ring = Line2D([], [], linestyle="", marker="o", markersize=6, markerfacecolor="none", markeredgecolor=GREEN)
        ring.set_label(f"{len(focus.neighbors)} true neighbours")
        handles.insert(1, ring)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
