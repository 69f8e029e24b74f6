"""Layouts of the same cells side by side, for `coords` and `coord_progression`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ipar.metrics import procrustes_align, procrustes_error
from ipar.pl._colors import CellColors, add_key, obs_colors, position_colors
from ipar.pl._figure import as_map, dots, figure_of, given_axes, new_axes, panel_height
from ipar.pl._read import cells_of_slide, finite_rows, true_positions

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike


@dataclass(frozen=True)
class Layouts:
    """Named layouts (n, 2) of the same n cells in one frame, with the colours of the cells."""

    panels: dict[str, NDArray[np.float64]]
    errors: dict[str, float]  # of the predicted ones, in RMS radii of the truth
    colors: CellColors
    slide: str | None

    def draw(self, ax: AxesLike | None, *, n_cols: int, width: float) -> Figure:
        """Draw each layout in a panel ``width`` inches wide, all to the same scale."""
        everything = np.concatenate(list(self.panels.values()))
        names = list(self.panels)
        if ax is None:
            axes = new_axes(
                names,
                n_cols=n_cols,
                panel=(width, panel_height(everything, width)),
                margin=0.1 if self.colors.bare else 1.2,
            )
        else:
            axes = given_axes(ax, names)
        for panel, (name, xy) in zip(axes, self.panels.items(), strict=True):
            as_map(panel, everything)
            dots(panel, xy, c=self.colors.rgba, label=name)
            panel.set_title(f"{name} (error {self.errors[name]:.2f})" if name in self.errors else name, fontsize=10)
        figure = figure_of(axes)
        if ax is None:
            add_key(figure, axes, self.colors)
            if self.slide is not None:
                figure.suptitle(self.slide, fontsize=11)
        return figure


def collect_layouts(
    adata: AnnData,
    predicted: dict[str, NDArray[np.float64]],
    *,
    spatial_key: str | None,
    color: str | None,
    library_key: str | None,
    slide: str | None,
) -> Layouts:
    """Choose the cells of one slide, align each predicted layout (n_obs, 2) with the truth, and colour them.

    If the truth is unknown, layouts are not aligned, and the last one gives the colours.
    """
    rows, name = cells_of_slide(adata, library_key, slide)
    truth = true_positions(adata, spatial_key)
    if truth is not None and not np.isfinite(truth[rows]).all(axis=1).any():
        truth = None  # a slide of dissociated cells among others
    rows = finite_rows(rows, truth, *predicted.values())
    panels = {title: xy[rows] for title, xy in predicted.items()}
    errors = {}
    if truth is not None:
        target = truth[rows]
        errors = {title: procrustes_error(target, xy).rmse for title, xy in panels.items()}
        panels = {"truth": target} | {title: procrustes_align(target, xy) for title, xy in panels.items()}
    reference = panels["truth"] if truth is not None else list(panels.values())[-1]
    colors = CellColors(position_colors(reference)) if color is None else obs_colors(adata, color, rows)
    return Layouts(panels, errors, colors, name)
