"""Whether a tissue can be localised, and where the energy at inference comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar._docs import shared_docs
from ipar._public import public
from ipar.pl._figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    beside,
    figure_of,
    finish,
    get_axes,
)
from ipar.pl._read import part_of_slide, run_record
from ipar.pl._style import FigureSize, Palette, Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_PANELS = {
    "share of true neighbours among candidates": ("recall", "recall_chance", "chance"),
    "Spearman of predicted and true distances": ("distance_spearman", "permutation_spearman", "permutation"),
}
_BARS = {
    "first guess": ("first guess,\nno graph", "#56B4E9"),
    "target edges": ("true graph", GREEN),
    "true candidates": ("candidates that\nare true neighbours", BLUE),
    "wrong candidates": ("only the\nwrong candidates", VERMILLION),
    "all candidates": ("all candidates,\nno gate", GREY),
    "gated candidates": ("all candidates\nwith the gate", ORANGE),
}


@public
@shared_docs
def localisability(
    adata: AnnData,
    *,
    title: str | None = None,
    frameon: bool | None = None,
    figsize: FigureSize | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot whether a tissue can be localised, one row per held-out slide.

    Left: share of true neighbours among candidates (filled) and chance (hollow). Right: rank correlation of predicted and
    true distances (filled) and of permuted ones (hollow). Long bars are good. The title has the verdict, and the share of
    the variance of true positions that the embedding explains.

    Parameters
    ----------
    adata
        Training cells after :func:`ipar.pp.embed` or :func:`ipar.tl.fit_ipalite`.
    title
        Title of the figure (default: the verdict).
    %(chart)s
    ax
        Two axes to draw on instead of a new figure. The verdict, or `title`, is then the title of the first.
    %(show)s
    %(figure)s
    """
    record = run_record(adata, "localisability", "ipar.tl.fit_ipalite")
    folds = pd.DataFrame(record["folds"])
    axes = get_axes(ax, list(_PANELS), figsize or (7.4, 1.7 + 0.28 * len(folds)), n_cols=2)
    good = bool(record["localisable"])
    color = BLUE if good else VERMILLION
    for panel, (label, (measured, control, control_name)) in zip(axes, _PANELS.items(), strict=True):
        _draw_folds(panel, folds[measured].to_numpy(), folds[control].to_numpy(), control_name, color)
        panel.set_xlabel(label, fontsize=9)
        Style(frameon=frameon).chart(panel)
    _name_folds(axes, folds)
    verdict = _verdict(record, good) if title is None else title
    style: dict[str, Any] = {"fontsize": 11, "color": color}
    if ax is None:
        figure_of(axes).suptitle(verdict, **style)
    else:
        axes[0].set_title(verdict, **style)
    return finish(figure_of(axes), ax=ax, show=show, return_fig=return_fig)


def _verdict(record: dict[str, Any], good: bool) -> str:
    verdict = "Localisable" if good else "Not localisable: coordinates would mean nothing"
    recall, spearman = float(record["recall_ratio"]), float(record["distance_spearman"])
    explained = f"{float(record['explained']):.0%} of positions explained, " if "explained" in record else ""
    return f"{verdict}\n{explained}candidate recall {recall:.1f}× chance, distance correlation {spearman:.2f}"


def _draw_folds(ax: Axes, measured: NDArray[np.float64], control: NDArray[np.float64], name: str, color: str) -> None:
    places = np.arange(len(measured))
    ax.hlines(places, control, measured, color=color, linewidth=2.0, alpha=0.5, zorder=1)
    ax.scatter(control, places, s=36, facecolors="white", edgecolors=INK, linewidths=1.2, zorder=2, label=name)
    ax.scatter(measured, places, s=42, color=color, linewidths=0, zorder=3, label="held-out slide")
    ax.set_ylim(len(measured) - 0.5, -0.5)
    span = np.concatenate([measured, control])
    ax.set_xlim(min(0.0, float(np.nanmin(span))) - 0.03, max(1.0, float(np.nanmax(span))) + 0.03)
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.2)


def _name_folds(axes: list[Axes], folds: pd.DataFrame) -> None:
    axes[0].set_yticks(range(len(folds)), folds["slide"].astype(str))
    axes[1].set_yticks([])
    notes = ([f"{ratio:.1f}×" for ratio in folds["recall_ratio"]], [f"{rho:.2f}" for rho in folds["distance_spearman"]])
    for panel, texts, (measured, control, _) in zip(axes, notes, _PANELS.values(), strict=True):
        right = np.fmax(folds[measured], folds[control])
        for place, (text, edge) in enumerate(zip(texts, right, strict=True)):
            beside(panel, text, (edge, place), 7, 8)


@public
@shared_docs
def gap(
    adata: AnnData,
    *,
    slide: str | None = None,
    title: str | None = None,
    palette: Palette | None = None,
    frameon: bool | None = None,
    figsize: FigureSize | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot where the energy at inference comes from: E_geo of the same minisets on different graphs.

    Bars are means over minisets, whiskers standard deviations, dots single minisets. The first bar is the initial guess,
    before any recycle. A graph above it does harm.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.decompose_gap`.
    slide
        Slide to draw. By default all slides.
    title
        Title of the figure (default: the slide, if one is chosen).
    palette
        Colours of the bars: a list in the order of the bars, a dictionary by condition, as in the table of
        :func:`ipar.tl.decompose_gap`, or the name of a matplotlib colour map.
    %(chart)s
    ax
        Axes to draw on instead of a new figure.
    %(show)s
    %(figure)s

    Notes
    -----
    The true graph loses the edges that are no candidates ("candidates that are true neighbours"). "All candidates" adds
    the wrong ones, and the gate reduces their weight.
    """
    table = pd.DataFrame(run_record(adata, "gap", "ipar.tl.decompose_gap"))
    table = part_of_slide(table, slide, "the decomposition of the gap")
    style = Style(frameon=frameon, title=title, palette=palette)
    present = {name: color for name, (_, color) in _BARS.items() if name in set(table["condition"])}
    colors = style.series(present, "gap")
    (axes,) = get_axes(ax, ["gap"], figsize or (5.6, 3.3))
    _draw_bars(axes, table, colors)
    style.chart(axes)
    style.name([axes], ["" if slide is None else str(slide)])
    return finish(figure_of([axes]), ax=ax, show=show, return_fig=return_fig)


def _draw_bars(ax: Axes, table: pd.DataFrame, colors: dict[str, str]) -> None:
    for place, name in enumerate(colors):
        energies = table[table["condition"] == name]["e_geo"].to_numpy(dtype=np.float64)
        mean, spread = energies.mean(), energies.std()
        ax.barh(place, mean, height=0.66, color=colors[name], linewidth=0, label=name)
        shift = np.linspace(-0.22, 0.22, len(energies)) if len(energies) > 1 else [0.0]
        ax.scatter(energies, place + np.asarray(shift), s=7, color=INK, alpha=0.45, linewidths=0, zorder=2)
        ax.errorbar(mean, place, xerr=spread, color=INK, linewidth=1.2, capsize=3, zorder=3)
        beside(ax, f"{mean:.2f}", (max(float(energies.max()), mean + spread), place), 6, 9)
    ax.set_yticks(range(len(colors)), [_BARS[name][0] for name in colors], fontsize=8.5)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, float(table["e_geo"].min())), None)
    ax.margins(x=0.16)
    ax.set_xlabel("E_geo on held-out minisets (lower is better)", fontsize=9)
