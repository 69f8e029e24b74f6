"""Pieces of simulated tissue: positions of cells, and the distortion of sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Piece:
    """Cells of one piece of tissue, in random order.

    Attributes
    ----------
    coords
        (n, 2) positions in micrometres, in the frame of the tissue.
    features
        (n, f) spatial patterns that genes follow, each from about 0 to 1.
    cell_types
        (n,) codes of cell types.
    obs
        Further annotation of the cells.
    """

    coords: Floats
    features: Floats
    cell_types: Ints
    obs: pd.DataFrame

    def take(self, rows: Ints) -> Piece:
        """Return the piece made of the given rows."""
        return Piece(self.coords[rows], self.features[rows], self.cell_types[rows], self.obs.iloc[rows])


@dataclass(frozen=True)
class Tissue:
    """Description of a tissue for the simulator.

    Attributes
    ----------
    name
        Name, stored in ``uns["source"]``.
    programmes
        Gene programme → (share of the genes, columns of `Piece.features` it may follow, log-fold amplitude).
    cell_types
        Names of cell types, in the order of their codes.
    coupling
        (t,) strength of the spatial programmes per type.
    size
        (t,) RNA content per type, relative to the median cell.
    recovery
        (t,) relative chance of each type to survive dissociation.
    cut
        ``cut(rng, n_cells, vary)`` → `Piece`. With `vary`, outline and anatomy differ as between sections.
    marker_share
        Share of genes that mark cell types.
    n_states
        Number s of cell states that do not depend on position.
    state_sd, spatial_state_sd
        Standard deviations of the log-fold changes by states, for other and for spatial genes.
    base_sd
        Standard deviation of the baseline log levels of genes.
    negative_binomial_size
        Median size parameter of the counts.
    """

    name: str
    programmes: Mapping[str, tuple[float, slice, float]]
    cell_types: tuple[str, ...]
    coupling: Floats
    size: Floats
    recovery: Floats
    cut: Callable[[np.random.Generator, int, bool], Piece]
    marker_share: float = 0.25
    n_states: int = 8
    state_sd: float = 0.35
    spatial_state_sd: float = 0.1
    base_sd: float = 1.2
    negative_binomial_size: float = 4.0


def scatter(
    rng: np.random.Generator, n: int, box: tuple[float, float, float, float], density: Callable[[Floats], Floats]
) -> Floats:
    """Place `n` cells with the given relative density in [0, 1] within a box (x0, x1, y0, y1), in random order.

    A jittered square grid is thinned in proportion to the density. Unlike independent points, cells do not overlap.
    """
    x0, x1, y0, y1 = box
    probe = rng.uniform((x0, y0), (x1, y1), size=(4000, 2))
    mean_density = max(float(density(probe).mean()), 1e-3)
    step = np.sqrt((x1 - x0) * (y1 - y0) * mean_density / (3 * n))  # three times as many points as cells
    while True:
        grid = np.stack(np.meshgrid(np.arange(x0, x1, step), np.arange(y0, y1, step)), axis=-1).reshape(-1, 2)
        points = grid + rng.uniform(0.05, 0.95, size=grid.shape) * step
        points = points[rng.random(len(points)) < density(points)]
        if len(points) >= n:
            chosen: Floats = points[rng.permutation(len(points))[:n]]
            return chosen
        step *= 0.9


def draw_codes(rng: np.random.Generator, probabilities: Floats) -> Ints:
    """Draw one category per row of an (n, t) table of relative probabilities; returns (n,) codes."""
    cumulative = np.cumsum(probabilities, axis=1)
    draws = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    codes: Ints = (draws >= cumulative).sum(axis=1)
    return codes


def as_categories(codes: Ints, names: Sequence[str]) -> pd.Series[str]:
    """Turn (n,) codes into a categorical column, with categories in the order of `names`."""
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(list(names))))


def slide_column(n_slides: int, n_cells: int) -> pd.Series[str]:
    """Return the slide of each cell, "slide1", "slide2", …, for slides of equal size one after another."""
    return as_categories(np.repeat(np.arange(n_slides), n_cells), [f"slide{i + 1}" for i in range(n_slides)])


def outside_bite(points: Floats, centre: Floats, radius: float) -> npt.NDArray[np.bool_]:
    """Return which of (n, 2) points lie outside a round defect, shape (n,)."""
    kept: npt.NDArray[np.bool_] = ((points - centre) ** 2).sum(axis=1) > radius**2
    return kept


def mount(
    rng: np.random.Generator, coords: Floats, *, scale_sd: float = 0.04, warp: float = 0.03, stage: float = 10_000.0
) -> Floats:
    """Mount a section on a slide: warp, scale, perhaps mirror, rotate and shift its positions (n, 2).

    Lengths change by about `scale_sd`, half of the sections are mirrored, and the angle is uniform. A smooth warp moves
    cells by about `warp` RMS radii. Its wavelength is longer than the section, so that it never folds. The slide has
    `stage` micrometres on each side.
    """
    centred = coords - coords.mean(axis=0)
    radius = np.sqrt((centred**2).sum(axis=1).mean())
    waves = rng.normal(0.0, 0.9 / radius, size=(2, 3))
    phases = rng.uniform(0.0, 2 * np.pi, size=3)
    push = rng.normal(0.0, warp * radius, size=(3, 2))
    warped = centred + np.sin(centred @ waves + phases) @ push
    angle = rng.uniform(0.0, 2 * np.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.exp(rng.normal(0.0, scale_sd))
    placed: Floats = scale * (warped * [mirror, 1.0]) @ rotation.T + rng.uniform(0.2 * stage, 0.8 * stage, size=2)
    return placed
