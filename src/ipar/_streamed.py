"""Rows that are not in memory, but in an open file or a Dask array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anndata.io import sparse_dataset
from scipy import sparse

from ipar._chunks import Chunk, Piece, Source
from ipar._cluster import pool
from ipar._passes import Numbers
from ipar._slots import canonical


@dataclass(frozen=True)
class Streamed(Source):
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
    afar
        How a worker reads the rows from a first one up to another one: a function without arguments, or what Dask computes;
        None where workers cannot read them.
    """

    shape: tuple[int, int]
    starts: tuple[int, ...]
    read: Callable[[int, int], Any]
    where: str
    afar: Callable[[int, int], Any] | None = None
    _sizes: dict[int, int] = field(default_factory=dict, repr=False)  # values of the chunks that were read

    def chunks(self, rows: Numbers | None = None) -> Iterator[Chunk]:
        """See :meth:`Rows.chunks`.

        Raises
        ------
        OSError
            If rows cannot be read, or are not what they were before.
        """
        for own, start, stop in self._parts(rows):
            chunk = read_rows(self.read, (start, stop), self.shape[1], self.where)
            self.check(start, chunk.nnz)
            yield own, chunk if len(own) == stop - start else chunk[own - start]

    def pieces(self, rows: Numbers | None, heavy: bool) -> Iterator[Piece] | None:
        """See :meth:`Source.pieces`."""
        if self.afar is not None:
            return ((own, start, self.afar(start, stop)) for own, start, stop in self._parts(rows))
        return ((own, None, chunk) for own, chunk in self.chunks(rows)) if heavy else None

    def _parts(self, rows: Numbers | None) -> Iterator[tuple[Numbers, int, int]]:
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            own = np.arange(start, stop) if rows is None else rows[slice(*np.searchsorted(rows, (start, stop)))]
            if len(own):
                yield own, start, stop

    def check(self, start: int, n_values: int) -> None:
        """See :meth:`Source.check`."""
        # a zarr store that vanished reads as zeros
        if self._sizes.setdefault(start, n_values) != n_values:
            raise OSError(_changed(self.where))


@dataclass(frozen=True)
class StoredRows:
    """Reads rows of a matrix of an HDF5 file that it opens itself.

    Attributes
    ----------
    path, name
        The file, and the group or data set.
    """

    path: str
    name: str

    @classmethod
    def of(cls, raw: Any) -> StoredRows | None:
        """What an open matrix is read from; None where workers do not see the same file, or it is open for writing."""
        found = getattr(raw, "group", raw)
        file = getattr(found, "file", None)
        if file is None or file.mode != "r":
            return None
        path = os.path.abspath(file.filename)
        return cls(path, found.name) if pool().agree(_file_state, path) else None

    def __call__(self, start: int, stop: int) -> Any:
        """The rows from a first one up to another one, as they are stored."""
        import h5py

        with h5py.File(self.path, "r") as file:
            found = file[self.name]
            return (sparse_dataset(found) if isinstance(found, h5py.Group) else found)[start:stop]


def _file_state(path: str) -> tuple[int, int] | None:
    """Size and time of a file that can be read."""
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def read_rows(read: Callable[[int, int], Any], ends: tuple[int, int], width: int, where: str) -> sparse.csr_matrix:
    """Rows from a first one up to another one, in canonical format.

    Raises
    ------
    OSError
        If they cannot be read, or are not as many or as wide.
    """
    try:
        found = read(*ends)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        msg = f"{where} cannot be read ({error}): look whether its file is still there, and open it again."
        raise OSError(msg) from error
    chunk = canonical(found, where)
    if chunk.shape != (ends[1] - ends[0], width):
        raise OSError(_changed(where))
    return chunk


def _changed(where: str) -> str:
    return f"{where} changed while it was read: keep its file as it is, open it again and repeat the call."
