"""Rows of an expression matrix, read in chunks: one way for a matrix in memory and for one that never is, as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._slots import canonical

Numbers = NDArray[np.int64]
Chunk: TypeAlias = tuple[Numbers, sparse.csr_matrix]
"""Numbers of some rows, ascending, and what they hold."""
Step: TypeAlias = Callable[[sparse.csr_matrix, Numbers], sparse.csr_matrix]


@dataclass(frozen=True)
class Survey:
    """What one pass over all rows tells.

    Attributes
    ----------
    keys
        :func:`row_key` of every row, float64 ``(n,)``.
    sizes
        Values other than zero of every row, int32 ``(n,)``.
    sums
        Sum of every column in float64, ``(n_genes,)``.
    smallest, largest
        Extremes, at most and at least zero; NaN if there is a NaN.
    """

    keys: NDArray[np.float64]
    sizes: NDArray[np.int32]
    sums: NDArray[np.float64]
    smallest: float
    largest: float


class Rows(ABC):
    """A matrix of cells by genes that is read in chunks of rows, each CSR float32 in canonical format.

    No more than a chunk is held at a time, and rows come in the order of the cells. What is computed of a row depends on
    this row alone, so that results are the same to the last bit for any chunks.
    """

    shape: tuple[int, int]

    @abstractmethod
    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        """All rows, or those with some ascending numbers; chunks without any of these are not read."""

    def map(self, step: Step, n_columns: int | None = None) -> Rows:
        """The same rows after a function of them and of their numbers, with as many columns as it gives."""
        return _Mapped(self, step, (self.shape[0], self.shape[1] if n_columns is None else n_columns))

    def select(self, rows: Numbers) -> Rows:
        """The rows with some ascending numbers; the same object, if these are all."""
        return self if len(rows) == self.shape[0] else _Selected(self, rows)

    def take(self, rows: Numbers) -> sparse.csr_matrix:
        """A sample of rows in a given order, in memory."""
        order = np.argsort(rows, kind="stable")
        found = [chunk for _, chunk in self.chunks(rows[order])]
        if not found:
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        return sparse.csr_matrix(sparse.vstack(found, format="csr"))[np.argsort(order)]

    def whole(self) -> sparse.csr_matrix:
        """All rows, in memory."""
        return self.take(np.arange(self.shape[0]))

    def dot(self, x: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Product with a dense matrix ``(n_genes, k)``."""
        out = np.empty((self.shape[0], x.shape[1]), dtype=np.result_type(np.float32, x.dtype))
        for own, chunk in self.chunks():
            out[own] = chunk @ x
        return out

    @cached_property
    def survey(self) -> Survey:
        """What one pass tells; it is kept."""
        n, n_genes = self.shape
        keys, sizes, sums = np.zeros(n), np.zeros(n, dtype=np.int32), np.zeros(n_genes)
        smallest = largest = np.float32(0.0)
        for own, chunk in self.chunks():
            keys[own], sizes[own] = row_key(chunk), np.diff(chunk.indptr)
            sums += np.bincount(chunk.indices, chunk.data, minlength=n_genes)
            smallest, largest = (
                np.minimum(smallest, chunk.data.min(initial=0)),
                np.maximum(largest, chunk.data.max(initial=0)),
            )
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
        for own, chunk in self.chunks():
            ones = np.ones(len(own))
            member = sparse.csr_matrix((ones, (codes[own], np.arange(len(own)))), shape=(n_groups, len(own)))
            sums += (member @ chunk).toarray()
        return (sums / np.maximum(np.bincount(codes, minlength=n_groups), 1)[:, None]).astype(np.float32)


@dataclass(frozen=True)
class InMemory(Rows):
    """Rows of a matrix in memory: what is made of them is made at once."""

    matrix: sparse.csr_matrix
    most_rows: int = 65_536  # of a large matrix, no more is copied at once

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
class Streamed(Rows):
    """Rows that a function reads from elsewhere.

    Attributes
    ----------
    shape
        Cells and genes.
    starts
        First rows of the chunks, and the number of rows.
    read
        Reads the rows from a first one up to another one, as they are stored.
    where
        Name of the slot, for messages.
    """

    shape: tuple[int, int]
    starts: tuple[int, ...]
    read: Callable[[int, int], Any]
    where: str
    _sizes: dict[int, int] = field(default_factory=dict, repr=False)  # values of the chunks that were read

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        """See :meth:`Rows.chunks`.

        Raises
        ------
        OSError
            If rows cannot be read, or are not what they were before.
        """
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            own = np.arange(start, stop)
            if rows is not None:
                own = rows[slice(*np.searchsorted(rows, (start, stop)))]
            if len(own):
                chunk = self._checked(start, stop)
                yield own, chunk if len(own) == stop - start else chunk[own - start]

    def _checked(self, start: int, stop: int) -> sparse.csr_matrix:
        try:
            found = self.read(start, stop)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            msg = f"{self.where} cannot be read ({error}): look whether its file is still there, and open it again."
            raise OSError(msg) from error
        chunk = canonical(found, self.where)
        # a zarr store that vanished reads as zeros
        if chunk.shape != (stop - start, self.shape[1]) or self._sizes.setdefault(start, chunk.nnz) != chunk.nnz:
            msg = f"{self.where} changed while it was read: keep its file as it is, open it again and repeat the call."
            raise OSError(msg)
        return chunk


@dataclass(frozen=True)
class _Mapped(Rows):
    parent: Rows
    step: Step
    shape: tuple[int, int]

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        for own, chunk in self.parent.chunks(rows):
            yield own, self.step(chunk, own)


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


Matrix: TypeAlias = sparse.csr_matrix | Rows


def as_rows(matrix: Matrix) -> Rows:
    """Rows of a matrix in memory; rows as they are."""
    return matrix if isinstance(matrix, Rows) else InMemory(matrix)


def row_key(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """A number for every row that depends on what the row holds alone, ``(n,)``."""
    key: NDArray[np.float64] = matrix @ np.random.default_rng(0).random(matrix.shape[1])
    return key


def row_slices(n: int, n_rows: int = 65_536) -> Iterator[slice]:
    """Slices of so many rows."""
    return (slice(start, min(start + n_rows, n)) for start in range(0, n, n_rows))
