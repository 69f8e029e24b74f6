"""A cortex-like tissue: an arc of layers over a hippocampus-like band, without repeats or mirror symmetry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ipar.datasets._sections import Floats, Ints, Piece, Tissue, as_categories, draw_codes, outside_bite, scatter

LAYERS = ("L1", "L2-3", "L4", "L5", "L6", "WM", "HPF", "CA")
# relative cell density per layer
DENSITY = np.array([0.35, 0.8, 1.0, 0.7, 0.75, 0.6, 0.35, 1.0])

# rows: cell types; columns: LAYERS
ABUNDANCE = pd.DataFrame(
    {
        "Ex L2-3": [0.02, 0.62, 0.08, 0.01, 0.00, 0.00, 0.00, 0.00],
        "Ex L4": [0.00, 0.05, 0.60, 0.05, 0.00, 0.00, 0.00, 0.00],
        "Ex L5": [0.00, 0.01, 0.05, 0.55, 0.06, 0.00, 0.00, 0.00],
        "Ex L6": [0.00, 0.00, 0.00, 0.07, 0.60, 0.04, 0.00, 0.00],
        "Ex CA": [0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.12, 0.80],
        "In Pvalb": [0.02, 0.05, 0.08, 0.09, 0.05, 0.00, 0.06, 0.03],
        "In Sst": [0.02, 0.03, 0.04, 0.07, 0.06, 0.00, 0.07, 0.01],
        "In Vip": [0.10, 0.08, 0.03, 0.02, 0.01, 0.00, 0.04, 0.01],
        "Astrocyte": [0.52, 0.08, 0.06, 0.06, 0.07, 0.14, 0.36, 0.07],
        "Oligodendrocyte": [0.05, 0.01, 0.02, 0.04, 0.09, 0.70, 0.16, 0.03],
        "Microglia": [0.10, 0.03, 0.02, 0.02, 0.03, 0.07, 0.10, 0.03],
        "Endothelial": [0.17, 0.04, 0.02, 0.02, 0.03, 0.05, 0.09, 0.02],
    },
    index=LAYERS,
).T

# columns of Piece.features
LAMINAR = slice(0, 6)
TANGENTIAL = slice(6, 10)
BAND = slice(10, 13)


@dataclass(frozen=True)
class _Anatomy:
    """Shape of one section, in micrometres.

    A point has a tangential position u in [0, 1] along the arc and a depth below the pia. The arc is wider and the cortex
    thicker at one end, L4 exists in the middle only, and the hippocampus-like ellipse lies off-centre. Hence no rotation or
    reflection maps the tissue onto itself.

    Attributes
    ----------
    level
        Level of the cut, in standard deviations between sections.
    borders
        Lower borders of L1, L2-3, L4 at the ends of the arc, and L5, as shares of the cortex.
    crop
        Part of the arc that was cut, in tangential positions.
    roughness
        Amplitude and phase of the rim.
    bite
        Centre x, y and radius of a lost piece.
    white_matter
        Thickness of the white matter.
    reach
        Half the side of the box that holds the tissue.
    """

    level: float = 0.0
    borders: tuple[float, ...] = (0.10, 0.34, 0.55, 0.75)
    crop: tuple[float, float] = (0.0, 1.0)
    roughness: tuple[float, float] = (0.0, 0.0)
    bite: tuple[float, float, float] = (0.0, 0.0, 0.0)
    white_matter: float = 90.0
    reach: float = 1800.0

    def tangential(self, points: Floats) -> Floats:
        angle: Floats = np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
        return (0.95 - angle / np.pi) / 0.83

    def pia(self, u: Floats) -> Floats:
        radius: Floats = (1 + 0.03 * self.level) * (1120 + 330 * u + 50 * np.sin(3 * np.pi * u))
        return radius

    def thickness(self, u: Floats) -> Floats:
        thickness: Floats = (1 + 0.06 * self.level) * (500 + 270 * u)
        return thickness

    def laminar(self, points: Floats) -> Floats:
        """Return the depth in layers: 0 at the pia, 1 at the border of L1 and L2-3, …, 5 to 6 in white matter."""
        u = self.tangential(points)
        depth = self.pia(u) - np.hypot(points[:, 0], points[:, 1])
        fraction = depth / self.thickness(u)
        b1, b23, b4, b5 = self.borders
        # agranular towards both ends: L4 is thick in the middle only
        l4_end = b23 + 0.03 + (b4 - b23) * np.exp(-(((u - 0.5) / 0.3) ** 2))
        borders = np.stack(np.broadcast_arrays(0.0, b1, b23, l4_end, b5, 1.0), axis=1)
        inside = np.clip((fraction[:, None] - borders[:, :-1]) / np.diff(borders, axis=1), 0, 1)
        laminar: Floats = inside.sum(axis=1) + np.maximum(depth - self.thickness(u), 0) / self.white_matter
        laminar[fraction < 0] = -1
        return laminar

    def hippocampus(self, points: Floats) -> tuple[Floats, Floats]:
        """Return elliptical radius (1 on the pyramidal band) and position along the band, 0 (CA1) to 1 (CA3)."""
        tilt = 0.66 * np.pi
        along = points @ [np.sin(tilt), -np.cos(tilt)]
        across = points @ [np.cos(tilt), np.sin(tilt)] - 290
        growth = 1 + 0.1 * self.level
        x, y = along / (270 * growth), across / (170 * growth)
        return np.hypot(x, y), (np.arctan2(y, x) / np.pi + 0.35) % 2 / 1.5

    def layer(self, points: Floats) -> Ints:
        """Return the layer code of each point, −1 outside the tissue."""
        u, laminar = self.tangential(points), self.laminar(points)
        radius, along = self.hippocampus(points)
        codes = np.where(laminar < 6, np.floor(laminar), -1).astype(np.intp)
        amplitude, phase = self.roughness
        lost = self.pia(u) - np.hypot(points[:, 0], points[:, 1]) < amplitude * (1 + np.sin(25 * u + phase))
        codes[(u < self.crop[0]) | (u > self.crop[1]) | lost] = -1
        deep = (laminar >= 6) & (radius < 1.5)
        codes[deep] = LAYERS.index("HPF")
        codes[deep & (np.abs(radius - 1) < 0.17) & (along < 1)] = LAYERS.index("CA")
        codes[~outside_bite(points, np.array(self.bite[:2]), self.bite[2])] = -1
        return codes

    def features(self, points: Floats) -> Floats:
        """Return the (n, 13) spatial patterns: six depth bands, four along the arc, three of the hippocampus."""
        u, laminar = self.tangential(points), self.laminar(points)
        radius, along = self.hippocampus(points)
        cortex = laminar < 6
        bands = np.exp(-0.5 * ((laminar[:, None] - np.arange(0.5, 6)) / 0.6) ** 2) * cortex[:, None]
        steps = 1 / (1 + np.exp(-(u[:, None] - [0.3, 0.65]) / 0.07))
        arc = np.column_stack([u, 1 - u, steps]) * cortex[:, None]
        band = np.exp(-(((radius - 1) / 0.25) ** 2))
        hippocampus = np.column_stack([band, np.clip(along, 0, 1), 1 - np.clip(along, 0, 1)]) * ~cortex[:, None]
        return np.column_stack([bands, arc, hippocampus])


def _vary(rng: np.random.Generator) -> _Anatomy:
    """Draw the anatomy of a section: level, layer borders, extent, a rough rim and a lost piece."""
    anatomy = _Anatomy(level=float(np.clip(rng.normal(), -1.5, 1.5)))
    u = rng.uniform(0.1, 0.9, size=1)
    angle = np.pi * (0.95 - 0.83 * u[0])
    rim = anatomy.pia(u)[0]
    return replace(
        anatomy,
        borders=tuple(np.asarray(anatomy.borders) + rng.normal(0, 0.012, size=4)),
        crop=(rng.uniform(0, 0.06), rng.uniform(0.94, 1)),
        roughness=(rng.uniform(0, 20), rng.uniform(0, 2 * np.pi)),
        bite=(rim * np.cos(angle), rim * np.sin(angle), rng.uniform(50, 160)),
    )


def _cut(rng: np.random.Generator, n_cells: int, vary: bool) -> Piece:
    anatomy = _vary(rng) if vary else _Anatomy()
    density = np.append(DENSITY, 0.0)
    box = (-anatomy.reach, anatomy.reach, -0.1 * anatomy.reach, anatomy.reach)
    coords = scatter(rng, n_cells, box, lambda points: density[anatomy.layer(points)])
    layers = anatomy.layer(coords)
    types = draw_codes(rng, ABUNDANCE.to_numpy().T[layers])
    obs = pd.DataFrame({"layer": as_categories(layers, LAYERS)})
    return Piece(coords, anatomy.features(coords), types, obs)


TISSUE = Tissue(
    name="layered tissue (cortex-like)",
    programmes={
        "layer": (0.12, LAMINAR, 2.0),
        "tangential": (0.12, TANGENTIAL, 2.4),
        "band": (0.06, BAND, 2.0),
    },
    cell_types=tuple(ABUNDANCE.index),
    # neurons carry positional identity; glia and vessels mostly do not
    coupling=np.array([1, 1, 1, 1, 1, 0.8, 0.8, 0.8, 0.7, 0.5, 0.4, 0.4]),
    size=np.array([1.2, 1.1, 1.4, 1.2, 1.3, 1.1, 1.0, 0.9, 0.7, 0.8, 0.5, 0.6]),
    recovery=np.array([0.6, 0.7, 0.5, 0.6, 0.5, 0.6, 0.7, 0.8, 1.0, 1.0, 1.0, 0.9]),
    cut=_cut,
)
