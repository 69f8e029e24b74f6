"""Pieces of simulated tissue: positions of cells, and the distortion of sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

SHRINKAGE_SD = 0.04
WARP_AMPLITUDE = 0.03
STAGE_UM = 10_000.0
OVERSAMPLING = 3


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
    """

    name: str
    programmes: Mapping[str, tuple[float, slice, float]]
    cell_types: tuple[str, ...]
    coupling: Floats
    size: Floats
    recovery: Floats
    cut: Callable[[np.random.Generator, int, bool], Piece]


def scatter(
    rng: np.random.Generator,
    n: int,
    box: tuple[float, float, float, float],
    density: Callable[[Floats], Floats],
) -> Floats:
    """Place `n` cells with the given relative density, spaced more evenly than by chance, in random order.

    A jittered square grid is thinned in proportion to the density. Grid and jitter keep cells apart as cell bodies
    do; independent uniform points would overlap.

    Parameters
    ----------
    rng
        Source of randomness.
    n
        Number of cells.
    box
        (x0, x1, y0, y1) that holds the tissue, micrometres.
    density
        (m, 2) points → (m,) relative density in [0, 1], 0 outside the tissue.

    Returns
    -------
    (n, 2) points, micrometres.
    """
    x0, x1, y0, y1 = box
    probe = rng.uniform((x0, y0), (x1, y1), size=(4000, 2))
    mean_density = max(float(density(probe).mean()), 1e-3)
    step = np.sqrt((x1 - x0) * (y1 - y0) * mean_density / (OVERSAMPLING * n))
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


def outside_bite(points: Floats, centre: Floats, radius: float) -> npt.NDArray[np.bool_]:
    """Return which of (n, 2) points lie outside a round defect, shape (n,)."""
    kept: npt.NDArray[np.bool_] = ((points - centre) ** 2).sum(axis=1) > radius**2
    return kept


def mount(rng: np.random.Generator, coords: Floats) -> Floats:
    """Mount a section on a slide: warp, scale, perhaps mirror, rotate and shift it.

    Parameters
    ----------
    rng
        Source of randomness.
    coords
        (n, 2) positions in micrometres, in the frame of the tissue.

    Returns
    -------
    (n, 2) positions in micrometres, in the frame of the slide.

    Notes
    -----
    Half of the sections are mirrored, the angle is uniform, and lengths change by about 4 %. A smooth warp moves cells by
    about 3 % of the RMS radius. Its wavelength is longer than the section, so that it never folds.
    """
    centred = coords - coords.mean(axis=0)
    radius = np.sqrt((centred**2).sum(axis=1).mean())
    waves = rng.normal(0.0, 0.9 / radius, size=(2, 3))
    phases = rng.uniform(0.0, 2 * np.pi, size=3)
    push = rng.normal(0.0, WARP_AMPLITUDE * radius, size=(3, 2))
    warped = centred + np.sin(centred @ waves + phases) @ push
    angle = rng.uniform(0.0, 2 * np.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.exp(rng.normal(0.0, SHRINKAGE_SD))
    placed: Floats = scale * (warped * [mirror, 1.0]) @ rotation.T + rng.uniform(0.2 * STAGE_UM, 0.8 * STAGE_UM, size=2)
    return placed
