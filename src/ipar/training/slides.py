"""The training slides, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar._passes import row_key
from ipar.graph.neighbors import cells_by_slide


@dataclass(frozen=True)
class Slide:
    """A training slide.

    Attributes
    ----------
    expression
        Log-normalised expression, CSR ``(n, n_genes)``.
    coords
        Coordinates, ``(n, 2)`` or ``(n, 3)``.
    name
        Its name.
    """

    expression: sparse.csr_matrix
    coords: NDArray[np.float32]
    name: str

    def __len__(self) -> int:
        return int(self.expression.shape[0])

    def rows(self, cells: NDArray[np.int64], name: str | None = None) -> Slide:
        """Some of its cells, under another name if one is given."""
        return Slide(self.expression[cells], self.coords[cells], name or self.name)

    @property
    def labels(self) -> pd.Categorical[Any]:
        """The slide of every cell, as encoders read it."""
        return pd.Categorical([self.name] * len(self))


@dataclass(frozen=True)
class SlideSet:
    """Slides with the same genes.

    Attributes
    ----------
    slides
        The slides, in order of their names.
    genes
        Names of the columns of their expression.
    rows
        Rows of the data that the cells of each slide stand in; none for slides that were not read from data.
    """

    slides: tuple[Slide, ...]
    genes: pd.Index
    rows: tuple[NDArray[np.int64], ...] = ()

    @classmethod
    def of(
        cls, matrix: sparse.csr_matrix, genes: pd.Index, coords: NDArray[np.float64], labels: pd.Categorical
    ) -> SlideSet:
        """Cells split by their slide, in an order that does not depend on that of the rows.

        Coordinates ``(n, d)`` are centred slide by slide: far from the origin, single precision would lose them.
        """
        key = row_key(matrix)
        rows = tuple(cells[np.lexsort([*coords[cells].T, key[cells]])] for cells in cells_by_slide(labels, len(labels)))
        slides = tuple(
            Slide(matrix[cells], (coords[cells] - np.median(coords[cells], axis=0)).astype(np.float32), str(name))
            for name, cells in zip(labels.categories, rows, strict=True)
        )
        return cls(slides, genes, rows)

    def __len__(self) -> int:
        return len(self.slides)

    def __getitem__(self, index: int) -> Slide:
        return self.slides[index]

    def __iter__(self) -> Iterator[Slide]:
        return iter(self.slides)

    def joined(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Values of the cells of every slide, ``(n_s, d)`` each, in the rows of the data."""
        whole: NDArray[Any] = np.empty((sum(self.sizes), *parts[0].shape[1:]), dtype=parts[0].dtype)
        for rows, part in zip(self.rows, parts, strict=True):
            whole[rows] = part
        return whole

    @property
    def sizes(self) -> list[int]:
        """Cells of every slide."""
        return [len(slide) for slide in self.slides]

    @property
    def coords(self) -> list[NDArray[np.float32]]:
        """Coordinates of every slide."""
        return [slide.coords for slide in self.slides]

    @property
    def n_dims(self) -> int:
        """Dimensions of the coordinates."""
        return int(self.slides[0].coords.shape[1])

    def sample(self, n_cells: int, rng: np.random.Generator) -> SlideSet:
        """So many cells at most, as even over slides as their sizes allow; the same object where these are all."""
        if sum(self.sizes) <= n_cells:
            return self
        drawn = zip(self.slides, even_shares(np.array(self.sizes), n_cells), strict=True)
        slides = (one.rows(np.sort(rng.permutation(len(one))[:share])) for one, share in drawn)
        return SlideSet(tuple(slides), self.genes)


def even_shares(sizes: NDArray[np.int64], n_cells: int) -> NDArray[np.int64]:
    """Cells of every slide, as even as their sizes allow, so many in all or fewer."""
    found = np.zeros_like(sizes)
    for left, i in zip(range(len(sizes), 0, -1), np.argsort(sizes, kind="stable"), strict=True):
        found[i] = min(sizes[i], (n_cells - found.sum()) // left)
    return found
