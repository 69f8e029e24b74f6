"""What is held out, and of what: the only draw of it in a fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans

from ipar._options import Checked
from ipar._run import Run
from ipar.training.slides import SlideSet


@dataclass(frozen=True)
class Blocks(Checked):
    """How a section that teaches alone is cut into parts.

    A part is made of several contiguous blocks, spread over the section, so that each part shows all of the tissue.

    Attributes
    ----------
    n_blocks
        Blocks of the section, shared out to the parts.
    least_cells
        Cells per block: small sections have fewer blocks. A block of 40 is about six cells wide.
    margin_neighbors
        The margin around a part is as wide as the distance to this neighbour.
    n_shares
        Ways of sharing out the blocks that are compared.
    """

    n_blocks: int = 12
    least_cells: int = 40
    margin_neighbors: int = 10
    n_shares: int = 200

    def parts(self, coords: NDArray[np.float32], n_parts: int, run: Run) -> NDArray[np.int64]:
        """The part of every cell of a section with coordinates ``(n, d)``: parts of like size, centre and spread."""
        n_each = max(1, min(self.n_blocks, len(coords) // self.least_cells) // n_parts)
        block = KMeans(n_each * n_parts, n_init=1, random_state=run.seed).fit_predict(coords)
        sizes = np.bincount(block)
        unit = (coords - coords.mean(axis=0)) / np.maximum(coords.std(axis=0), 1e-12)
        values = np.concatenate([unit, np.square(unit) - 1], axis=1)
        moments = np.stack([np.bincount(block, x).astype(np.float64) for x in values.T], axis=1)
        rng, shares = run.rng, np.repeat(np.arange(n_parts), n_each)
        tried = [rng.permutation(shares) for _ in range(self.n_shares)]
        best = min(tried, key=lambda share: _unevenness(share, sizes, moments))
        return np.asarray(best[block], dtype=np.int64)

    def near(self, coords: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cells of the section within the margin around some of its cells, without these."""
        k = min(self.margin_neighbors, len(coords) - 1)
        width = np.median(cKDTree(coords).query(coords, [k + 1])[0])
        to_part = cKDTree(coords[rows]).query(coords)[0]
        return np.setdiff1d(np.flatnonzero(to_part <= width), rows)


def _unevenness(share: NDArray[np.int64], sizes: NDArray[np.int64], moments: NDArray[np.float64]) -> float:
    """How far parts are from equal sizes, and from the centre and the spread of the section."""
    counts = np.bincount(share, sizes)
    sums = np.stack([np.bincount(share, x) for x in moments.T], axis=1)
    uneven = np.square(counts / counts.mean() - 1).sum() + np.square(sums / counts[:, None]).sum()
    return float(uneven)


@dataclass(frozen=True)
class Part:
    """Cells that are held out as one: a slide, or some blocks of a section that teaches alone.

    Attributes
    ----------
    slide
        Its slide.
    rows
        Its cells on that slide.
    margin
        Cells of the slide that lie near it, from which nothing is learned while it is held out; none for a whole slide.
    """

    slide: int
    rows: NDArray[np.int64]
    margin: NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """What is held out of what.

    Attributes
    ----------
    parts
        What can be held out.
    groups
        Parts held out of one encoder together; each part is in one group.
    held_out
        The part that layout networks and flows are first trained without: epochs, sharpening and the expected error are
        chosen on it.
    cells
        Of every part, the cells that choices are scored on.
    """

    parts: tuple[Part, ...]
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
        none = np.empty(0, dtype=np.int64)
        parts = [Part(i, np.arange(size), none) for i, size in enumerate(sizes)]
        return cls._drawn(parts, run, n_folds, most_cells)

    @classmethod
    def within(
        cls,
        coords: NDArray[np.float32],
        run: Run,
        *,
        n_folds: int = 3,
        most_cells: int = 1500,
        part: NDArray[np.int64] | None = None,
        blocks: Blocks = Blocks(),
    ) -> Folds:
        """Cut one section into parts by :class:`Blocks`, or as ``part`` ``(n,)`` says.

        Parameters
        ----------
        coords
            Coordinates of the section, ``(n, 2)`` or ``(n, 3)``.
        n_folds
            Number of parts.
        most_cells, run
            As in :meth:`of`.

        Raises
        ------
        ValueError
            If there are fewer than two parts.
        """
        _check(n_folds)
        part = blocks.parts(coords, n_folds, run) if part is None else part
        rows = [np.flatnonzero(part == i) for i in np.unique(part)]
        parts = [Part(0, own, blocks.near(coords, own)) for own in rows]
        return cls._drawn(parts, run, len(parts), most_cells)

    @classmethod
    def for_slides(
        cls,
        slides: SlideSet,
        run: Run,
        *,
        n_folds: int = 3,
        most_cells: int = 1500,
        part: NDArray[np.int64] | None = None,
    ) -> Folds:
        """Those of several slides, or of the parts of a section that is alone."""
        if len(slides) > 1:
            return cls.of(slides.sizes, run, n_folds=n_folds, most_cells=most_cells)
        return cls.within(slides[0].coords, run, n_folds=n_folds, most_cells=most_cells, part=part)

    @classmethod
    def _drawn(cls, parts: Sequence[Part], run: Run, n_folds: int, most_cells: int) -> Folds:
        _check(n_folds)
        n = len(parts)
        groups = np.array_split(run.rng.permutation(n), min(n_folds, n))
        cells = tuple(np.sort(run.rng.permutation(len(part.rows))[:most_cells]) for part in parts)
        held_out = int(run.rng.integers(n))
        return cls(tuple(parts), tuple(tuple(group.tolist()) for group in groups), held_out, cells)

    @property
    def one_section(self) -> bool:
        """Whether the parts are of one section."""
        return len(self.parts) > 1 and len({part.slide for part in self.parts}) == 1

    @property
    def part_of_cell(self) -> NDArray[np.int64]:
        """The part of every cell of a single section."""
        part = np.empty(sum(len(one.rows) for one in self.parts), dtype=np.int64)
        for i, one in enumerate(self.parts):
            part[one.rows] = i
        return part

    def group_of(self, part: int) -> tuple[int, ...]:
        """The group that a part is held out with."""
        return next(group for group in self.groups if part in group)

    @property
    def share_known(self) -> float:
        """Share of the slides that teach an encoder while a part is held out, the mean over parts; 1 in a single section."""
        n = len(self.parts)
        return 1.0 if self.one_section else float(np.mean([1 - len(self.group_of(i)) / n for i in range(n)]))

    def known(self, slides: SlideSet, held_out: Collection[int]) -> SlideSet:
        """The slides without some parts and the margins around them."""
        kept = []
        for i, slide in enumerate(slides):
            own = [part for part in (self.parts[j] for j in held_out) if part.slide == i]
            gone = [cells for part in own for cells in (part.rows, part.margin)]
            rows = np.setdiff1d(np.arange(len(slide)), np.concatenate(gone)) if gone else None
            if rows is None or len(rows):
                kept.append(slide if rows is None else slide.rows(rows))
        return SlideSet(tuple(kept), slides.genes)

    def split(self, slides: SlideSet) -> SlideSet:
        """Every part as a slide of its own."""
        if not self.one_section:
            return slides
        parts = (slides[0].rows(part.rows, f"{slides[0].name}, part {i + 1}") for i, part in enumerate(self.parts))
        return SlideSet(tuple(parts), slides.genes)

    def joined(self, values: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Values of the cells of every part, as values of the cells of every slide."""
        if not self.one_section:
            return list(values)
        whole = np.empty((sum(map(len, values)), *values[0].shape[1:]), dtype=np.float32)
        for part, own in zip(self.parts, values, strict=True):
            whole[part.rows] = own
        return [whole]

    def rest(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Parts to train on while one is held out, and the cells of each that lie outside its margin."""
        left = self.parts[self.held_out]
        others = [(i, part) for i, part in enumerate(self.parts) if i != self.held_out]
        kept = [(i, np.flatnonzero(~np.isin(part.rows, left.margin))) for i, part in others]
        return [(i, rows) for i, rows in kept if len(rows)]


def _check(n_folds: int) -> None:
    if n_folds < 2:
        msg = f"n_folds must be at least 2, found {n_folds}: a fold is trained on the slides that the others hold out."
        raise ValueError(msg)
