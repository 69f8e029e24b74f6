"""Which slides are held out, and of what: the only draw of it in a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipar._run import Run


@dataclass(frozen=True)
class Folds:
    """What is held out of what.

    Attributes
    ----------
    groups
        Slides held out of one encoder together; each slide is in one group.
    held_out
        The slide that layout networks and flows are first trained without: epochs, sharpening and the expected error are
        chosen on it.
    cells
        Of every slide, the cells that choices are scored on.
    """

    groups: tuple[tuple[int, ...], ...]
    held_out: int
    cells: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, sizes: Sequence[int], run: Run, *, n_folds: int = 3, most_cells: int = 1500) -> Folds:
        """Draw them for slides of the given numbers of cells.

        Parameters
        ----------
        n_folds
            Groups of slides; at most one per slide.
        most_cells
            Cells per slide that choices are scored on: scores of more take long and say the same.

        Raises
        ------
        ValueError
            If there are fewer than two groups.
        """
        if n_folds < 2:
            msg = f"n_folds must be at least 2, found {n_folds}: a fold is trained on the slides that the others hold out."
            raise ValueError(msg)
        n = len(sizes)
        parts = np.array_split(run.rng.permutation(n), min(n_folds, n))
        cells = tuple(np.sort(run.rng.permutation(size)[:most_cells]) for size in sizes)
        return cls(tuple(tuple(part.tolist()) for part in parts), int(run.rng.integers(n)), cells)

    def group_of(self, slide: int) -> tuple[int, ...]:
        """The group that a slide is held out with."""
        return next(group for group in self.groups if slide in group)
