from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.lines import Line2D

from ipar.pl._figure import GREEN, as_map, dot_size, dots, figure_of, finish, given_axes, new_axes, panel_height
from ipar.pl._focus import Focus, choose_numbers, choose_queries, read_focus

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_RED, _PALE = "#E31A1C", "#CCCCCC"
_MAX_LINE_WIDTH = 2.5
# without its palest tenth, YlOrRd stays visible on white
_COLORMAP = ListedColormap(colormaps["YlOrRd"](np.linspace(0.1, 1.0, 256)), name="YlOrRd")


def attention_focus(
    adata: AnnData,
    query: int | str | Sequence[int | str] | None = None,
    *,
    spatial_key: str | None = "spatial",
    recycles: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    n_top: int = 5,
    n_neighbors: int = 20,
    crop: bool = True,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> list[Figure] | None:
    r"""Map what single cells attend to: one figure a query, rows = recycles, columns = heads.

    Every panel shows the cells of the query's pass. Grey: not a candidate. Yellow to red: a candidate, by the attention
    :math:`a_{ij}^h` it receives from the query. Red star: the query :math:`i`. Red lines: to the `n_top` most attended
    candidates, width proportional to weight. Green rings: the true spatial neighbours, which the attention should
    find. Rings and filled dots differ in shape too, so that red and green need not be told apart. Colours and line
    widths have one scale in the whole figure, hence a pale panel is a head that spreads its attention.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_coords`, which stores the attention of one query per spatial quadrant, or
        :func:`ipar.tl.attention`, which stores that of any cells.
    query
        Stored queries to draw, by name or by position in `adata`. None: all of them, each in its own figure, since the
        twenty panels of one query fill a page.
    spatial_key
        Key in ``obsm`` of the true positions (n, 2). The cells are drawn there if all cells of the pass have one, and at
        ``obsm["X_ipar"]``, without rings, if not; the title says which. None: draw the prediction even so.
    recycles
        Recycles to draw, numbered from 1 as in the row labels (0 is the initial guess, before any attention). None: all.
    heads
        Heads to draw, numbered from 1. None: all.
    n_top
        Candidates joined to the query. Five stay distinguishable at this size.
    n_neighbors
        True neighbours ringed, the nearest among the cells of the pass; 20 is the smallest neighbourhood that training
        targets use.
    crop
        Show only the part of the tissue that holds the candidates and the true neighbours, which twenty panels on a page
        need to be legible. False: all cells of the pass.
    ax
        Axes to draw one query on instead of a new figure: recycles × heads of them, row by row. The legend, the colour
        bar and the title of the figure are then left out.
    show
        Call :func:`matplotlib.pyplot.show`. None: only if neither `ax` nor `return_fig` is given.
    return_fig
        Return the figures.

    Returns
    -------
    list of matplotlib.figure.Figure or None
        One figure a query, always as a list, if `return_fig`.

    Raises
    ------
    KeyError
        Without ``uns["ipar"]["attention"]``, or without any positions.
    ValueError
        For a query, recycle or head that is not stored, a record that no longer fits `adata`, or a wrong number of axes.
    """
    foci = choose_queries(adata, read_focus(adata, spatial_key, n_neighbors), query)
    if ax is not None and len(foci) != 1:
        msg = f"ax holds the panels of one query, but {len(foci)} were asked for: pass query=, or leave ax=None."
        raise ValueError(msg)
    n_recycles, n_heads = foci[0].weights.shape[:2]
    rows = choose_numbers(recycles, n_recycles, "recycles")
    columns = choose_numbers(heads, n_heads, "heads")
    figures = [_draw_query(focus, rows, columns, n_top, focus.view if crop else focus.xy, ax) for focus in foci]
    finish(ax=ax, show=show, return_fig=return_fig)
    return figures if return_fig else None


def _draw_query(
    focus: Focus, rows: list[int], columns: list[int], n_top: int, view: NDArray[np.float64], ax: AxesLike | None
) -> Figure:
    names = [f"recycle {row + 1}, head {column + 1}" for row in rows for column in columns]
    if ax is None:
        axes = new_axes(names, n_cols=len(columns), panel=(2.4, panel_height(view, 2.4)), margin=1.0)
    else:
        axes = given_axes(ax, names)
    shown = np.where(focus.candidates, focus.weights, 0.0)[np.ix_(rows, columns)]
    # the very highest weights may saturate: else one peak leaves all other candidates pale
    top = np.quantile(shown[..., focus.candidates], 0.995) if focus.candidates.any() else 0.0
    norm = Normalize(0.0, float(top) or 1.0)
    widest = float(shown.max()) or 1.0
    panels = [(row, column) for row in rows for column in columns]
    for panel, (row, column) in zip(axes, panels, strict=True):
        as_map(panel, view)
        _draw_panel(panel, focus, row, column, n_top, norm, widest)
    _label_grid(axes, rows, columns)
    if ax is None:
        _furnish(axes, focus, n_top, norm)
    return figure_of(axes)


def _draw_panel(ax: Axes, focus: Focus, recycle: int, head: int, n_top: int, norm: Normalize, widest: float) -> None:
    (left, right), (bottom, top_edge) = ax.get_xlim(), ax.get_ylim()
    low, high = np.array([left, bottom]), np.array([right, top_edge])
    size = dot_size(ax, int(((focus.xy >= low) & (focus.xy <= high)).all(axis=1).sum()))
    weights = focus.weights[recycle, head]
    others = ~focus.candidates
    others[focus.query] = False
    dots(ax, focus.xy[others], s=0.5 * size, color=_PALE, label="not a candidate")
    places = np.flatnonzero(focus.candidates)
    places = places[np.argsort(weights[places], kind="stable")]  # the most attended on top
    dots(ax, focus.xy[places], s=size, c=weights[places], cmap=_COLORMAP, norm=norm, label="candidates", zorder=2)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": GREEN, "linewidths": 0.8, "zorder": 4}
    if focus.known:
        dots(ax, focus.xy[focus.neighbors], s=max(2.0 * size, 12.0), label="true neighbours", **ring)
    top = focus.top(recycle, head, n_top)
    here = focus.xy[focus.query]
    lines = LineCollection(
        [np.stack([here, focus.xy[place]]) for place in top],
        colors=_RED,
        linewidths=[_MAX_LINE_WIDTH * weights[place] / widest for place in top],
        capstyle="round",
        zorder=3,
        label="top",
    )
    ax.add_collection(lines, autolim=False)
    star: dict[str, Any] = {"marker": "*", "color": _RED, "edgecolors": "white", "linewidths": 0.6, "zorder": 5}
    dots(ax, here[None, :], s=float(np.clip(12 * size, 45.0, 110.0)), label="query", **star)


def _label_grid(axes: list[Axes], rows: list[int], columns: list[int]) -> None:
    for panel, column in zip(axes, columns, strict=False):
        panel.set_title(f"head {column + 1}", fontsize=9)
    for panel, row in zip(axes[:: len(columns)], rows, strict=True):
        panel.set_ylabel(f"recycle {row + 1}", fontsize=9)


def _furnish(axes: list[Axes], focus: Focus, n_top: int, norm: Normalize) -> None:
    figure = figure_of(axes)
    where = "true positions" if focus.known else "predicted positions"
    figure.suptitle(f"Attention of {focus.name} ({where})", fontsize=11)
    bar = figure.colorbar(
        ScalarMappable(norm, _COLORMAP), ax=axes, extend="max", shrink=0.5, aspect=30, label="attention weight"
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
