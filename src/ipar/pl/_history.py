from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar._anndata import RECORD
from ipar._docs import shared_docs
from ipar._public import public
from ipar.pl._figure import BLUE, GREY, INK, ORANGE, figure_of, finish, given_axes
from ipar.pl._read import run_record
from ipar.pl._style import FigureSize, Palette, Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ipar.pl._figure import AxesLike

_REMEDY = "ipar.tl.fit_ipalite"
_TITLES = {
    "total": "total loss",
    "walk": "random walk KL",
    "stress": "log stress",
    "repulsion": "repulsion",
    "entropy": "entropy term",
    "gate": "gate KL",
    "translation": "translation",
    "rotation": "rotation",
    "auxiliary": "distances, anchor",
    "local_mean": "local mean",
    "scaling": "scaling",
    "geo_scaled_absmax": "largest geometry term",
    "wmax_sat_frac": "saturated rows",
    "log_det_min": "least log-determinant",
}
_TERMS = {
    "val_gated": ("total", "walk", "stress", "gate", "repulsion", "entropy"),
    "val_pose": ("translation", "rotation", "auxiliary", "local_mean", "scaling", "gate"),
}
_CURVES = {
    "val_gated": {"val_gated": ("candidates and gate", BLUE), "val_target": ("target edges", ORANGE)},
    "val_pose": {"val_pose": ("denoised ellipses", BLUE), "val_pose_clean": ("true ellipses", ORANGE)},
}
_VALIDATION = {"val_gated": "E_geo on validation minisets", "val_pose": "pose losses on validation sets"}


@public
@shared_docs
def history(
    adata: AnnData,
    *,
    terms: Sequence[str] | None = None,
    title: str | Sequence[str] | None = None,
    palette: Palette | None = None,
    frameon: bool | None = None,
    figsize: FigureSize | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot training losses and validation curves over epochs.

    The large panel shows E_geo on validation minisets: on candidates with the gate, by which the best epoch (star) is
    chosen, and on true edges. Small panels show the unweighted losses. In grey epochs the weight of the walk loss still
    rises; they cannot be chosen.

    After :func:`ipar.tl.fit_iga`, the large panel shows the sum of the pose losses: with attention on the denoised ellipses,
    by which the best epoch is chosen, and on the true ones.

    Parameters
    ----------
    adata
        Training cells after :func:`ipar.tl.fit_ipalite` or :func:`ipar.tl.fit_iga`.
    terms
        Columns of ``uns["ipar"]["history"]`` to draw in small panels. By default the losses; pass an empty list for none.
    title
        Title of the figure, or one title per panel.
    palette
        Colours of the two validation curves: a list in the order of the legend, a dictionary by their names in it, or the
        name of a matplotlib colour map.
    %(chart)s
    ax
        Axes to draw on instead of a new figure: one for the validation curves, then one per term.
    %(show)s
    %(figure)s

    Notes
    -----
    For IGA, terms may also be ``"geo_scaled_absmax"``, ``"wmax_sat_frac"`` and ``"log_det_min"``.
    """
    table = pd.DataFrame(run_record(adata, "history", _REMEDY))
    chosen_by = "val_pose" if "val_pose" in table else "val_gated"
    terms = _TERMS[chosen_by] if terms is None else terms
    if missing := [term for term in ("epoch", *terms) if term not in table]:
        msg = f"the history has no column {missing}: pass terms from {list(table)}, or run {_REMEDY} again."
        raise KeyError(msg)
    if table.empty:
        msg = f"the history has no epochs because training stopped during the first one: run {_REMEDY} again."
        raise ValueError(msg)
    best = adata.uns[RECORD].get("history_best")
    style = Style(frameon=frameon, title=title, palette=palette, figsize=figsize)
    curves = style.series(dict(_CURVES[chosen_by].values()), "history")
    axes = _mosaic(len(terms), figsize) if ax is None else given_axes(ax, ["validation", *terms])
    for panel in axes:
        _dress(panel, table, style)
    _draw_validation(axes[0], table, None if best is None else int(best), chosen_by, curves)
    for panel, term in zip(axes[1:], terms, strict=True):
        panel.plot(table["epoch"], table[term], color=INK, linewidth=1.4, label=term, marker="o", markersize=2.5)
    style.name(axes, [_VALIDATION[chosen_by], *(_TITLES.get(term, term) for term in terms)], fontsize=9)
    if ax is None:
        style.heading(axes, None, len(axes))
    return finish(figure_of(axes), ax=ax, show=show, return_fig=return_fig)


def _mosaic(n_terms: int, size: tuple[float, float] | None) -> list[Axes]:
    """Large panel on the left, two rows of small ones to its right."""
    import matplotlib.pyplot as plt

    n_cols = -(-n_terms // 2)
    figure = plt.figure(figsize=size or (4.2 + 2.0 * n_cols, 3.6), layout="constrained")
    grid = figure.add_gridspec(2, 1 + n_cols, width_ratios=[2.2] + [1.0] * n_cols)
    places = [grid[:, 0], *(grid[place // n_cols, 1 + place % n_cols] for place in range(n_terms))]
    return [figure.add_subplot(place) for place in places]


def _dress(ax: Axes, table: pd.DataFrame, style: Style) -> None:
    from matplotlib.ticker import MaxNLocator

    style.chart(ax)
    ax.set_xlabel("epoch", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if "w_rw" in table and (rising := table["epoch"][table["w_rw"] < table["w_rw"].max()]).size:
        span = rising.min() - 0.5, rising.max() + 0.5
        ax.axvspan(*span, color=GREY, alpha=0.25, linewidth=0, zorder=0, label="walk weight rises")


def _draw_validation(ax: Axes, table: pd.DataFrame, best: int | None, chosen_by: str, colors: dict[str, str]) -> None:
    values = table.set_index("epoch")
    for column, (label, _) in _CURVES[chosen_by].items():
        curve = values[column].dropna() if column in values else pd.Series(dtype=np.float64)
        if len(curve):  # validation may run in some epochs only: points are joined across the others
            ax.plot(curve.index, curve, color=colors[label], linewidth=1.8, marker="o", markersize=3.5, label=label)
    if not ax.lines:
        ax.text(0.5, 0.5, "no validation", transform=ax.transAxes, ha="center", color=INK, fontsize=9)
        return
    if best is not None and best in values.index and chosen_by in values:
        value = float(values[chosen_by].loc[best])
        ax.axvline(best, color=INK, linewidth=0.8, linestyle=":", zorder=1)
        label = f"best: epoch {best}" + (f", {value:.2f}" if np.isfinite(value) else "")
        star: dict[str, Any] = {"linestyle": "", "marker": "*", "markersize": 13, "markeredgecolor": "white"}
        ax.plot([best], [value], color=colors[_CURVES[chosen_by][chosen_by][0]], label=label, **star)
    ax.legend(fontsize=8, framealpha=1.0, edgecolor="none")
