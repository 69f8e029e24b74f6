"""What a peer is given and what it gives back: the one file that both environments share; it needs numpy only.

A peer's environment has no ipar and a peer's script no access to the data: all that it knows is in the exchange file,
which holds no coordinate of the slide to place.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_REFERENCE_MAX = 3000  # cells: transport plans and mapping matrices of query x reference must fit time and memory


@dataclass(frozen=True)
class Exchange:
    """Training slides, and the expression of the query.

    Attributes
    ----------
    x
        Log-normalised expression of the training slides, ``(n, n_genes)``.
    coords
        Their coordinates, every slide centred, at unit RMS radius and turned into one frame, ``(n, 2)``.
    slides
        Slide of every training cell, ``(n,)``.
    query
        Log-normalised expression of the slide to place, ``(n_query, n_genes)``; nothing else of it is here.
    """

    x: Floats
    coords: Floats
    slides: NDArray[np.str_]
    query: Floats

    def write(self, path: Path) -> None:
        """Write the exchange file."""
        np.savez(path, x=self.x, coords=self.coords, slides=self.slides, query=self.query)

    @classmethod
    def read(cls, path: Path) -> Exchange:
        """Read the exchange file."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})

    def reference(self, seed: int) -> tuple[Floats, Floats]:
        """Expression and coordinates of the one slide that methods map onto, at most 3,000 of its cells.

        Slides of which a mapping method is given several would need a frame in common, and it knows one tissue only:
        as its users do, we give it one. It is the training slide whose mean expression correlates best with the
        query's, as somebody would choose who knows the query's expression only.
        """
        profile = self.query.mean(axis=0)
        names = sorted(set(self.slides.tolist()))
        alike = [np.corrcoef(profile, self.x[self.slides == name].mean(axis=0))[0, 1] for name in names]
        rows = np.flatnonzero(self.slides == names[int(np.argmax(alike))])
        if len(rows) > _REFERENCE_MAX:
            rows = np.sort(np.random.default_rng(seed).choice(rows, _REFERENCE_MAX, replace=False))
        return self.x[rows], self.coords[rows]


def barycentres(plan: Floats, locations: Floats) -> Floats:
    """Mean location of every cell, weighted by its row of a mapping ``(n_query, n_locations)``."""
    weights = np.asarray(plan, dtype=np.float64)
    placed: Floats = weights @ locations / weights.sum(axis=1, keepdims=True)
    return placed


def mapped(plan: Floats, locations: Floats) -> tuple[Floats, Floats]:
    """What a mapping method gives back: barycentres, and the mapping itself."""
    return barycentres(plan, locations), plan


def serve(place: Callable[[Exchange, int], Floats | tuple[Floats, Floats]]) -> None:
    """Run a peer: ``place_<peer>.py EXCHANGE PLACED SEED``; time and memory are those of the method.

    It gives the coordinates of the query, or these and its mapping ``(n_query, n_locations)``.
    """
    given, placed, seed = sys.argv[1:]
    data = Exchange.read(Path(given))
    start = time.perf_counter()
    given_back = place(data, int(seed))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    coords, *plans = given_back if isinstance(given_back, tuple) else (given_back,)
    found = {"coords": np.asarray(coords, dtype=np.float64)}
    if plans:
        found["plan"] = np.asarray(plans[0], dtype=np.float32)
    np.savez(placed, seconds=seconds, peak_gib=peak, **found)
