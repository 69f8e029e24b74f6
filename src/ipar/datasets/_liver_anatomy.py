"""Liver: repeated hexagonal lobules, in which expression tells the zone of a cell but not its position."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ipar.datasets._sections import Floats, Piece, Tissue, as_categories, draw_codes, outside_bite, scatter

ZONES = ("pericentral", "midlobular", "periportal")

# rows: cell types; columns: ZONES, then the rim of a portal triad
ABUNDANCE = pd.DataFrame(
    {
        "Hepatocyte": [0.66, 0.66, 0.62, 0.15],
        "Endothelial": [0.18, 0.16, 0.14, 0.25],
        "Kupffer": [0.05, 0.08, 0.12, 0.08],
        "Stellate": [0.07, 0.06, 0.06, 0.07],
        "Cholangiocyte": [0.00, 0.00, 0.01, 0.30],
        "Lymphocyte": [0.04, 0.04, 0.05, 0.15],
    },
    index=(*ZONES, "triad"),
).T


@dataclass(frozen=True)
class _Anatomy:
    """Part of a lattice of central veins, in micrometres. Portal triads are the corners of their hexagons.

    Attributes
    ----------
    shift, angle
        Place of the section in the lattice.
    lobe
        Amplitude, number of waves and phase of the outline.
    bite
        Centre x, y and radius of a lost piece.
    lobule
        Distance between neighbouring central veins.
    central_vein, triad
        Radii of the vessels, which hold no cells.
    radius
        Radius of the section.
    zone_borders
        Zonation at the borders between pericentral, midlobular and periportal.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    lobe: tuple[float, float, float] = (0.0, 2.0, 0.0)
    bite: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lobule: float = 550.0
    central_vein: float = 28.0
    triad: float = 18.0
    radius: float = 1000.0
    zone_borders: tuple[float, float] = (0.38, 0.64)

    def vessels(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the distances from (n, 2) points to the nearest central vein and portal triad, in micrometres."""
        turn = np.array([[np.cos(self.angle), -np.sin(self.angle)], [np.sin(self.angle), np.cos(self.angle)]])
        local = points @ turn + np.asarray(self.shift)
        basis = self.lobule * np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]])
        centroid = basis.sum(axis=0) / 3
        central = _to_lattice(local, basis)
        portal = np.minimum(_to_lattice(local - centroid, basis), _to_lattice(local - 2 * centroid, basis))
        return central, portal

    def density(self, points: Floats) -> Floats:
        """Return 1 inside the tissue, 0 outside and in vessels."""
        central, portal = self.vessels(points)
        amplitude, waves, phase = self.lobe
        direction = np.arctan2(points[:, 1], points[:, 0])
        rim = self.radius * (1 + amplitude * np.sin(waves * direction + phase))
        inside = (np.hypot(points[:, 0], points[:, 1]) < rim) & (central > self.central_vein) & (portal > self.triad)
        return (inside & outside_bite(points, np.array(self.bite[:2]), self.bite[2])).astype(float)


def _to_lattice(points: Floats, basis: Floats) -> Floats:
    """Return the distances from (n, 2) points to the nearest point of the lattice spanned by the rows of `basis`."""
    fraction = points @ np.linalg.inv(basis)
    corners = np.floor(fraction)[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    distances: Floats = np.linalg.norm(points[:, None] - corners @ basis, axis=2).min(axis=1)
    return distances


def _vary(rng: np.random.Generator) -> _Anatomy:
    """Draw a section with its own place and angle in the lattice, outline and lost piece."""
    direction = rng.uniform(0, 2 * np.pi)
    plain = _Anatomy()
    rim = plain.radius * np.array([np.cos(direction), np.sin(direction)])
    return replace(
        plain,
        shift=tuple(rng.uniform(0, 10 * plain.lobule, size=2)),
        angle=rng.uniform(0, 2 * np.pi),
        lobe=(rng.uniform(0.05, 0.18), float(rng.integers(2, 4)), rng.uniform(0, 2 * np.pi)),
        bite=(rim[0], rim[1], rng.uniform(50, 250)),
    )


def _features(zonation: Floats) -> Floats:
    """Return the (n, 6) zonal patterns: three pericentral, one midlobular, two periportal."""
    return np.column_stack(
        [
            np.exp(-zonation / 0.15),
            1 / (1 + np.exp((zonation - 0.35) / 0.08)),
            1 - zonation,
            np.exp(-0.5 * ((zonation - 0.5) / 0.13) ** 2),
            zonation,
            1 / (1 + np.exp((0.65 - zonation) / 0.08)),
        ]
    )


def _cut(rng: np.random.Generator, n_cells: int, vary: bool) -> Piece:
    anatomy = _vary(rng) if vary else _Anatomy()
    reach = 1.2 * anatomy.radius
    coords = scatter(rng, n_cells, (-reach, reach, -reach, reach), anatomy.density)
    central, portal = anatomy.vessels(coords)
    zonation = central / (central + portal)
    zones = np.digitize(zonation, anatomy.zone_borders)
    niche = np.where(portal < 3 * anatomy.triad, len(ZONES), zones)
    types = draw_codes(rng, ABUNDANCE.to_numpy().T[niche])
    obs = pd.DataFrame({"zone": as_categories(zones, ZONES), "zonation": zonation})
    return Piece(coords, _features(zonation), types, obs)


TISSUE = Tissue(
    name="liver lobules",
    programmes={
        "pericentral": (0.15, slice(0, 3), 2.4),
        "midlobular": (0.05, slice(3, 4), 1.6),
        "periportal": (0.15, slice(4, 6), 2.4),
    },
    cell_types=tuple(ABUNDANCE.index),
    # about half of the hepatocyte's genes are zonated; sinusoidal endothelium and stellate cells follow less
    coupling=np.array([1.0, 0.6, 0.3, 0.4, 0.1, 0.1]),
    size=np.array([1.2, 0.6, 0.6, 0.6, 0.9, 0.5]),
    recovery=np.array([0.5, 1.0, 1.0, 0.8, 0.7, 1.0]),
    cut=_cut,
)
