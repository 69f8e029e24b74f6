from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar.pl._figure import BLUE, INK, VERMILLION, as_chart, beside, figure_of, finish, get_axes, shared_docs
from ipar.pl._read import run_record

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


@shared_docs
def localisability(
    adata: AnnData,
    *,
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
    ax
        Two axes to draw on instead of a new figure. The verdict is then the title of the first.
    %(show)s
    %(figure)s
    """
    record = run_record(adata, "localisability", "ipar.tl.fit_ipalite")
    folds = pd.DataFrame(record["folds"])
    axes = get_axes(ax, list(_PANELS), (7.4, 1.7 + 0.28 * len(folds)), n_cols=2)
    good = bool(record["localisable"])
    color = BLUE if good else VERMILLION
    for panel, (label, (measured, control, control_name)) in zip(axes, _PANELS.items(), strict=True):
        _draw_folds(panel, folds[measured].to_numpy(), folds[control].to_numpy(), control_name, color)
        panel.set_xlabel(label, fontsize=9)
    _name_folds(axes, folds)
    verdict = _verdict(record, good)
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
    as_chart(ax)
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
