"""The report on a prediction as a figure, or as a page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar._anndata import BELONGS, COORDS, plain_array, uncertainty_key
from ipar._docs import shared_docs
from ipar._files import replaced, target_of
from ipar._options import Positive
from ipar._public import public
from ipar.pl._figure import BLUE, GREY, figure_of, finish, get_axes
from ipar.pl._style import FigureSize, Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ipar.model import IPALite
    from ipar.pl._figure import AxesLike
    from ipar.tl import Doubt

PANELS = ("expected error", "belonging", "distribution of belonging")


@public
@shared_docs
def report(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    groupby: str | None = None,
    use_rep: str = COORDS,
    layer: str | None = None,
    doubt: Doubt | None = None,
    save: str | Path | None = None,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    figsize: FigureSize | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Draw what can be believed of a prediction, or save it as a page.

    Left: expected errors on the layout. Middle: how much cells belong to the training slides. Right: the distribution of
    that, beside the even distribution that left-out training cells have.

    Parameters
    ----------
    adata, model, groupby, use_rep, layer, doubt
        As in :func:`ipar.tl.report`.
    save
        File to write: a page with all tables (``.html``), or the figure (``.png``).
    %(size)s
    %(figsize)s
    ax
        Three axes to draw on instead of a new figure.
    %(show)s
    %(figure)s

    Raises
    ------
    KeyError
        If there is no prediction.
    OSError
        If `save` cannot be written.
    ValueError
        If `save` has another suffix.
    """
    from ipar.tl import report as collect  # loads torch

    path = None if save is None else Path(save)
    if path is not None and path.suffix not in (".html", ".png"):
        msg = f"save must end in .html or .png, found {path.name!r}: choose one of the two."
        raise ValueError(msg)
    if path is not None:
        target_of(path)  # what cannot be written is told before the work
    found = collect(adata, model, groupby=groupby, use_rep=use_rep, layer=layer, doubt=doubt)
    style = Style(size, frameon, title)
    axes = get_axes(ax, PANELS, figsize or (10.5, 3.6), n_cols=3)
    _draw(axes, adata, use_rep, style)
    if ax is None:
        style.heading(axes, None, len(axes))
    figure = figure_of(axes)
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150)
        content = picture.getvalue() if path.suffix == ".png" else _page(found, picture.getvalue()).encode()
        with replaced(path, size=len(content)) as staging:
            staging.write_bytes(content)
    return finish(figure, ax=ax, show=show if show is not None or path is None else False, return_fig=return_fig)


def _draw(axes: list[Axes], adata: AnnData, use_rep: str, style: Style) -> None:
    coords = plain_array(adata.obsm[use_rep], f"obsm[{use_rep!r}]").astype(np.float64)[:, :2]
    for ax, key, limits in (
        (axes[0], uncertainty_key(use_rep), (0.0, 1.0)),
        (axes[1], BELONGS, (0.0, 1.0)),
    ):
        values = adata.obs[key].to_numpy(dtype=float) if key in adata.obs else np.full(len(coords), np.nan)
        rows = np.flatnonzero(np.isfinite(values) & np.isfinite(coords).all(axis=1))
        if not len(rows):
            ax.axis("off")
            ax.text(0.5, 0.5, "not known", ha="center", va="center", transform=ax.transAxes)
            continue
        style.map(ax, coords[rows])
        colormap = "magma" if ax is axes[0] else "viridis"
        drawn = style.dots(ax, coords[rows], c=values[rows], cmap=colormap, vmin=limits[0], vmax=limits[1])
        figure_of(axes).colorbar(drawn, ax=ax, shrink=0.7)
    belongs = adata.obs[BELONGS].dropna().to_numpy(dtype=float) if BELONGS in adata.obs else np.zeros(0)
    axes[2].hist(belongs, bins=20, range=(0, 1), color=BLUE, label="cells")
    axes[2].axhline(len(belongs) / 20, color=GREY, label="left-out training cells")
    axes[2].set(xlabel="belongs", ylabel="cells")
    axes[2].legend(frameon=False, fontsize=8)
    style.chart(axes[2])
    style.name(axes, ["expected error (RMS radii)", "belongs to the training slides", ""])


def _page(found: dict[str, Any], picture: bytes) -> str:
    """The report as HTML that needs no other file."""
    image = base64.b64encode(picture).decode()
    summary = "".join(f"<li>{html.escape(line)}</li>" for line in found["summary"])
    tables = {
        "Query": found["query"].drop(columns="message", errors="ignore"),
        "Doubtful cells": found["doubtful"],
        "Cells": pd.Series(found["cells"]).to_frame("value"),
        "Values": found["values"],
        "Regions": found["coverage"],
        "Genes of the model": pd.Series(found["genes"]).to_frame("number"),
        "Tissue, on held-out training slides": pd.Series(found["tissue"], dtype=object).to_frame("value"),
        "Held-out training slides and chance": found["controls"],
    }
    shown = "".join(
        f"<h2>{html.escape(name)}</h2>{table.to_html(float_format='{:.3g}'.format)}" for name, table in tables.items()
    )
    style = "body{font-family:sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}td,th{padding:.2em .6em}"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>ipar: report</title><style>{style}</style></head>"
        f"<body><h1>What can be believed of this prediction</h1><ul>{summary}</ul>"
        f"<img style='max-width:100%' alt='expected errors and belonging of cells' src='data:image/png;base64,{image}'>"
        f"{shown}</body></html>"
    )
