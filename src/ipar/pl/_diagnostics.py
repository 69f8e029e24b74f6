from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, to_rgb
from matplotlib.patches import Rectangle

from ipar._docs import shared_docs
from ipar._options import Count
from ipar._public import public
from ipar.pl._figure import INK, VERMILLION, figure_of, finish, get_axes
from ipar.pl._read import part_of_slide, run_record
from ipar.pl._style import FigureSize, Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_REMEDY = "ipar.tl.attention_diagnostics"


@dataclass(frozen=True)
class _Panel:
    """How a measure is drawn: title, colour range and healthy range."""

    title: str
    limits: tuple[float, float | None] = (0.0, None)
    healthy: tuple[float, float] = (-np.inf, np.inf)
    note: str = ""
    decays: bool = False  # healthy values fall from recycle to recycle
    colormap: str = "cividis"


_PANELS = {
    "attention_recall": _Panel("attention recall@30", (0.0, 1.0), (0.40, 1.0), "healthy above 0.40"),
    "head_diversity": _Panel("head diversity", (0.0, 1.0)),
    "logit_std": _Panel("logit deviation", (0.0, None), (4.0, 8.0), "healthy 4 to 8"),
    # log 80 is 4.4: at 2.9, the attention of a cell covers some 18 others; twice and half of that are healthy
    "attention_entropy": _Panel("attention entropy (nats)", (0.0, None), (2.2, 3.6), "healthy about 2.9"),
    "displacement": _Panel("step |ΔX|/√n", note="healthy: decays", decays=True),
    "rho_qk": _Panel("ρ(attention, query·key)", (-1.0, 1.0), colormap="PuOr"),
    "rho_gate": _Panel("ρ(attention, gate)", (-1.0, 1.0), colormap="PuOr"),
    "rho_geometry": _Panel("ρ(attention, geometry)", (-1.0, 1.0), colormap="PuOr"),
    "rho_pair": _Panel("ρ(attention, pair)", (-1.0, 1.0), colormap="PuOr"),
    # two RMS radii reach beyond the tissue
    "offset_query": _Panel("query offset (RMS radii)", (0.0, None), (0.0, 2.0), "healthy below 2"),
    "offset_key": _Panel("key offset (RMS radii)", (0.0, None), (0.0, 2.0), "healthy below 2"),
}
_SINGLE = {
    "attention_recall_chance": "chance for attention recall",
    "gate_precision": "gate precision@30",
    "gate_recall": "gate recall@30",
}


@public
@shared_docs
def diagnostics(
    adata: AnnData,
    measures: Sequence[str] | None = None,
    *,
    slide: str | None = None,
    n_cols: Count = 4,
    title: str | Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    frameon: bool = False,
    figsize: FigureSize | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot attention diagnostics: one heat map of recycles × heads per measure.

    Values outside the healthy range, which is in the title of the panel, have a dashed red frame. Correlations and head
    diversity have no healthy range. The figure title has the recall expected by chance, and precision and recall of the
    gate.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.attention_diagnostics`.
    measures
        Measures to draw. By default all that are stored per recycle.
    slide
        Slide to draw. By default the mean over slides.
    n_cols
        Heat maps per row.
    title
        Title of the figure (default: the summary), or one title per heat map.
    cmap
        Colour map of all heat maps (default: cividis, and PuOr for correlations).
    frameon
        Draw a frame around each heat map.
    %(figsize)s
    ax
        Axes to draw on instead of a new figure, one per measure. The figure title is then left out.
    %(show)s
    %(figure)s

    Notes
    -----
    Attention recall should be above 0.40. In the last recycle of good networks it is 0.55. The standard deviation of
    logits should lie between 4 (below, attention is flat) and 8 (above, it is near one-hot). The entropy should be about
    2.9 nats for some 80 candidates. Steps should shrink from recycle to recycle, and offsets stay below 2 RMS radii. A gate
    with a precision of 0.78 and a recall of 0.63 is good.
    """
    stored = part_of_slide(pd.DataFrame(run_record(adata, "diagnostics", _REMEDY)), slide, "the table of diagnostics")
    table = stored.groupby(["measure", "recycle", "head"], observed=True)["value"].mean().reset_index()
    found = [name for name in _PANELS if name in set(table["measure"])]
    names = found if measures is None else list(measures)
    if not names or (missing := [name for name in names if name not in found]):
        msg = f"there is no heat map of {missing if names else 'nothing'}: pass measures from {found}, or run {_REMEDY} again."
        raise KeyError(msg)
    own = [table[table["measure"] == name] for name in names]
    grids = [part.pivot(index="recycle", columns="head", values="value") for part in own]
    n_cols = min(n_cols, len(grids))
    height = 0.9 + 0.24 * max(len(grid) for grid in grids)
    width = 0.9 + 0.36 * max(grid.shape[1] for grid in grids)
    style = Style(frameon=frameon, title=title, cmap=cmap)
    axes = get_axes(ax, names, figsize or (n_cols * width, -(-len(grids) // n_cols) * height + 0.4), n_cols=n_cols)
    panels = [_PANELS[name] for name in names]
    for one, panel, grid in zip(axes, panels, grids, strict=True):
        _draw(one, grid, panel, style)
    style.name(axes, [f"{panel.title}\n{panel.note}" if panel.note else panel.title for panel in panels], fontsize=8.5)
    figure = figure_of(axes)
    if ax is None:
        whole = title if isinstance(title, str) and len(axes) > 1 else _summary(table, slide)
        figure.suptitle(whole, fontsize=10)
    return finish(figure, ax=ax, show=show, return_fig=return_fig)


def _draw(ax: Axes, grid: pd.DataFrame, panel: _Panel, style: Style) -> None:
    values = grid.to_numpy(dtype=np.float64)
    low, high = panel.limits
    high = max(float(np.nanmax(values)), low + 1e-9) if high is None else high
    colormap = style.numbers(panel.colormap)
    image = ax.imshow(values, cmap=colormap, vmin=low, vmax=high, aspect="auto", label=panel.title)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            font: dict[str, Any] = {"ha": "center", "va": "center", "color": _ink_on(image.cmap(image.norm(value)))}
            ax.text(column, row, _figures(value, panel), fontsize=7.5, **font)
    for row, column in np.argwhere(unhealthy(values, panel)):
        line: dict[str, Any] = {"edgecolor": VERMILLION, "linewidth": 1.6, "linestyle": (0, (2.5, 1.2))}
        corner = (column - 0.46, row - 0.46)
        ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, label="unhealthy", **line))
    heads = ["all" if head == "0" else head for head in grid.columns.astype(str)]
    ax.set_xticks(range(len(heads)), heads, fontsize=8)
    ax.set_yticks(range(len(grid)), [str(recycle) for recycle in grid.index], fontsize=8)
    ax.set_xlabel("head", fontsize=8)
    ax.set_ylabel("recycle", fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(bool(style.frameon))


def _figures(value: float, panel: _Panel) -> str:
    if abs(value) >= 9.95:
        return f"{value:.0f}"
    digits = 3 if panel.decays else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0 turns −0 into 0


def _ink_on(color: Any) -> str:
    """White or ink, whichever has more contrast (relative luminance as in WCAG 2)."""
    luminance = [np.dot(np.power(to_rgb(one), 2.2), (0.2126, 0.7152, 0.0722)) for one in (color, INK)]
    return "white" if 1.05 / (luminance[0] + 0.05) > (luminance[0] + 0.05) / (luminance[1] + 0.05) else INK


def unhealthy(values: NDArray[np.float64], panel: _Panel) -> NDArray[np.bool_]:
    """Values outside the healthy range, or rising where they should fall."""
    low, high = panel.healthy
    found: NDArray[np.bool_] = (values < low) | (values > high)
    if panel.decays:
        found[1:] |= np.diff(values, axis=0) > 1e-9
    return found


def _summary(table: pd.DataFrame, slide: str | None) -> str:
    means = table.groupby("measure")["value"].mean()
    parts = [f"{title} {means[name]:.2f}" for name, title in _SINGLE.items() if name in means]
    head = "Attention" if slide is None else f"Attention on {slide}"
    return f"{head}: {', '.join(parts)}" if parts else f"{head} (no true coordinates)"
