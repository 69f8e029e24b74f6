from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ipar.pl._figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    as_chart,
    beside,
    figure_of,
    finish,
    get_axes,
    shared_docs,
)
from ipar.pl._read import part_of_slide, run_record

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = {
    "first guess": ("first guess,\nno graph", "#56B4E9"),
    "target edges": ("true graph", GREEN),
    "true candidates": ("candidates that\nare true neighbours", BLUE),
    "wrong candidates": ("only the\nwrong candidates", VERMILLION),
    "all candidates": ("all candidates,\nno gate", GREY),
    "gated candidates": ("all candidates\nwith the gate", ORANGE),
}


@shared_docs
def gap(
    adata: AnnData,
    *,
    slide: str | None = None,
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
    (axes,) = get_axes(ax, ["gap"], (5.6, 3.3))
    _draw(axes, table)
    if slide is not None:
        axes.set_title(str(slide), fontsize=10)
    return finish(figure_of([axes]), ax=ax, show=show, return_fig=return_fig)


def _draw(ax: Axes, table: pd.DataFrame) -> None:
    names = [name for name in _BARS if name in set(table["condition"])]
    for place, name in enumerate(names):
        energies = table[table["condition"] == name]["e_geo"].to_numpy(dtype=np.float64)
        mean, spread = energies.mean(), energies.std()
        ax.barh(place, mean, height=0.66, color=_BARS[name][1], linewidth=0, label=name)
        shift = np.linspace(-0.22, 0.22, len(energies)) if len(energies) > 1 else [0.0]
        ax.scatter(energies, place + np.asarray(shift), s=7, color=INK, alpha=0.45, linewidths=0, zorder=2)
        ax.errorbar(mean, place, xerr=spread, color=INK, linewidth=1.2, capsize=3, zorder=3)
        beside(ax, f"{mean:.2f}", (max(float(energies.max()), mean + spread), place), 6, 9)
    as_chart(ax)
    ax.set_yticks(range(len(names)), [_BARS[name][0] for name in names], fontsize=8.5)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, float(table["e_geo"].min())), None)
    ax.margins(x=0.12)
    ax.set_xlabel("E_geo on held-out minisets (lower is better)", fontsize=9)
