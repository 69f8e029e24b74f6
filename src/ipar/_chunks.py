"""Rows of an expression matrix, read in chunks: one way for a matrix in memory and for one that never is, as a whole.

What is computed of chunks is computed here or, by :mod:`ipar._cluster`, on the workers of a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._cluster import pool
from ipar._passes import Numbers, Survey, chunk_itself, group_sums, product, survey_of

T = TypeVar("T")
Chunk: TypeAlias = tuple[Numbers, sparse.csr_matrix]
"""Numbers of some rows, ascending, and what they hold."""
Step: TypeAlias = Callable[[sparse.csr_matrix, Numbers], sparse.csr_matrix]
Link: TypeAlias = Callable[[Numbers, sparse.csr_matrix], Chunk]
"""What is done with a chunk on the way from its source."""
Piece: TypeAlias = tuple[Numbers, int | None, Any]
"""Numbers of some rows of a source, and a matrix of these, or the first row of a chunk, or of what reads it, that holds them."""


class Rows(ABC):
    """A matrix of cells by genes that is read in chunks of rows, each CSR float32 in canonical format.

    No more than a chunk is held at a time, and rows come in the order of the cells. What is computed of a row depends on
    this row alone, so that results are the same to the last bit for any chunks.
    """

    shape: tuple[int, int]

    @abstractmethod
    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        """All rows, or those with some ascending numbers; chunks without any of these are not read."""

    @abstractmethod
    def origin(self, rows: Numbers | None) -> tuple[Source, tuple[Link, ...], Numbers | None]:
        """Where rows come from, what is done with chunks on the way, and the numbers that the rows have there."""

    def each(
        self, name: str, function: Callable[..., T], *shared: Any, rows: Numbers | None = None, heavy: bool = False
    ) -> Iterator[tuple[Numbers, T]]:
        """A function of every chunk, as from :meth:`chunks`, and of what all share: its numbers and its result, in order.

        Workers of a cluster read stored rows and compute. Rows in memory are sent to them only for ``heavy`` work.
        """
        source, links, own = self.origin(rows)
        pieces = None if pool().here else source.pieces(own, heavy)
        if pieces is None:
            for numbers, chunk in self.chunks(rows):
                yield numbers, function(numbers, chunk, *shared)
            return
        for start, n_values, numbers, result in pool().map(name, partial(_of_piece, function), pieces, links, *shared):
            if start is not None:
                source.check(start, n_values)
            yield numbers, result

    def map(self, step: Step, n_columns: int | None = None) -> Rows:
        """The same rows after a function of them and of their numbers, with as many columns as it gives."""
        return _Mapped(self, step, (self.shape[0], self.shape[1] if n_columns is None else n_columns))

    def select(self, rows: Numbers) -> Rows:
        """The rows with some ascending numbers; the same object, if these are all."""
        return self if len(rows) == self.shape[0] else _Selected(self, rows)

    def take(self, rows: Numbers) -> sparse.csr_matrix:
        """A sample of rows in a given order, in memory."""
        order = np.argsort(rows, kind="stable")
        found = [chunk for _, chunk in self.each("read", chunk_itself, rows=rows[order])]
        if not found:
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        return sparse.csr_matrix(sparse.vstack(found, format="csr"))[np.argsort(order)]

    def whole(self) -> sparse.csr_matrix:
        """All rows, in memory."""
        return self.take(np.arange(self.shape[0]))

    def dot(self, x: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Product with a dense matrix ``(n_genes, k)``."""
        out = np.empty((self.shape[0], x.shape[1]), dtype=np.result_type(np.float32, x.dtype))
        for own, found in self.each("product", product, x):
            out[own] = found
        return out

    @cached_property
    def survey(self) -> Survey:
        """What one pass tells; it is kept."""
        n, n_genes = self.shape
        keys, sizes, sums = np.zeros(n), np.zeros(n, dtype=np.int32), np.zeros(n_genes)
        smallest = largest = np.float64(0.0)
        for own, part in self.each("survey", survey_of):
            keys[own], sizes[own] = part.keys, part.sizes
            sums += part.sums
            smallest, largest = np.minimum(smallest, part.smallest), np.maximum(largest, part.largest)
        return Survey(keys, sizes, sums, float(smallest), float(largest))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """An order of the rows that depends on what they hold alone.

        Sums in another order differ in their last digits, and iterations make much of little: what is computed in this order
        is the same to the last bit however the cells of a file are shuffled.
        """
        return np.argsort(self.survey.keys, kind="stable")

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of every column, ``(n_genes,)``.

        Sums of float32 in float64 are exact, or nearly so: the order of the rows hardly ever shows in a mean.
        """
        return (self.survey.sums / self.shape[0]).astype(np.float32)

    def means_of(self, codes: NDArray[np.int_], n_groups: int) -> NDArray[np.float32]:
        """The same for every group of rows ``(n,)``, ``(n_groups, n_genes)``; zeros for groups without rows."""
        sums = np.zeros((n_groups, self.shape[1]))
        for _, part in self.each("means", group_sums, codes, n_groups):
            sums += part
        return (sums / np.maximum(np.bincount(codes, minlength=n_groups), 1)[:, None]).astype(np.float32)


class Source(Rows):
    """Rows as they come from a place."""

    def origin(self, rows: Numbers | None) -> tuple[Source, tuple[Link, ...], Numbers | None]:
        """See :meth:`Rows.origin`."""
        return self, (), rows

    @abstractmethod
    def pieces(self, rows: Numbers | None, heavy: bool) -> Iterator[Piece] | None:
        """What workers compute on; None where the work is not worth it."""

    def check(self, start: int, n_values: int) -> None:
        """Learn how many values a chunk has that a worker has read."""


@dataclass(frozen=True)
class InMemory(Source):
    """Rows of a matrix in memory: what is made of them is made at once."""

    matrix: sparse.csr_matrix
    most_rows: int = 65_536  # of a large matrix, no more is copied at once
    most_sent: int = 2048  # rows that a worker gets at a time

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """Cells and genes."""
        return self.matrix.shape  # type: ignore[no-any-return]

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        """See :meth:`Rows.chunks`."""
        n = self.shape[0] if rows is None else len(rows)
        for some in row_slices(n, self.most_rows):
            if rows is not None:
                yield rows[some], self.matrix[rows[some]]
            else:
                yield np.arange(some.start, some.stop), self.matrix if n <= self.most_rows else self.matrix[some]

    def pieces(self, rows: Numbers | None, heavy: bool) -> Iterator[Piece] | None:
        """See :meth:`Source.pieces`."""
        if not heavy:
            return None
        if rows is None:
            slices = row_slices(self.shape[0], self.most_sent)
            return ((np.arange(some.start, some.stop), None, self.matrix[some]) for some in slices)
        return ((rows[some], None, self.matrix[rows[some]]) for some in row_slices(len(rows), self.most_sent))

    def map(self, step: Step, n_columns: int | None = None) -> Rows:
        """See :meth:`Rows.map`."""
        return InMemory(step(self.matrix, np.arange(self.shape[0])), self.most_rows)

    def select(self, rows: Numbers) -> Rows:
        """See :meth:`Rows.select`."""
        return self if len(rows) == self.shape[0] else InMemory(self.matrix[rows], self.most_rows)

    def take(self, rows: Numbers) -> sparse.csr_matrix:
        """See :meth:`Rows.take`."""
        return self.matrix[rows]

    def whole(self) -> sparse.csr_matrix:
        """The matrix itself."""
        return self.matrix


@dataclass(frozen=True)
class _Mapped(Rows):
    parent: Rows
    step: Step
    shape: tuple[int, int]

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        for own, chunk in self.parent.chunks(rows):
            yield own, self.step(chunk, own)

    def origin(self, rows: Numbers | None) -> tuple[Source, tuple[Link, ...], Numbers | None]:
        source, links, found = self.parent.origin(rows)
        return source, (*links, partial(_stepped, self.step)), found


@dataclass(frozen=True)
class _Selected(Rows):
    parent: Rows
    rows: Numbers

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return len(self.rows), self.parent.shape[1]

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        for own, chunk in self.parent.chunks(self.rows if rows is None else self.rows[rows]):
            yield np.searchsorted(self.rows, own), chunk

    def origin(self, rows: Numbers | None) -> tuple[Source, tuple[Link, ...], Numbers | None]:
        source, links, found = self.parent.origin(self.rows if rows is None else self.rows[rows])
        return source, (*links, partial(_renumbered, self.rows)), found


def _stepped(step: Step, own: Numbers, chunk: sparse.csr_matrix) -> Chunk:
    return own, step(chunk, own)


def _renumbered(rows: Numbers, own: Numbers, chunk: sparse.csr_matrix) -> Chunk:
    return np.searchsorted(rows, own), chunk


def _of_piece(
    function: Callable[..., T], piece: Piece, links: tuple[Link, ...], *shared: Any
) -> tuple[int | None, int, Numbers, T]:
    """What a worker does with a piece; also the start of the chunk, and how many values it has."""
    own, start, held = piece
    chunk = held() if callable(held) else held
    n_values = chunk.nnz
    if start is not None and len(own) < chunk.shape[0]:
        chunk = chunk[own - start]
    for link in links:
        own, chunk = link(own, chunk)
    return start, n_values, own, function(own, chunk, *shared)


Matrix: TypeAlias = sparse.csr_matrix | Rows


def as_rows(matrix: Matrix) -> Rows:
    """Rows of a matrix in memory; rows as they are."""
    return matrix if isinstance(matrix, Rows) else InMemory(matrix)


def row_slices(n: int, n_rows: int = 65_536) -> Iterator[slice]:
    """Slices of so many rows."""
    return (slice(start, min(start + n_rows, n)) for start in range(0, n, n_rows))
