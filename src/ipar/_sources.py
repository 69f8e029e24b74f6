"""Where expression is read from: memory, an open file, or a Dask array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from anndata.abc import CSRDataset
from numpy.typing import NDArray
from scipy import sparse

from ipar._chunks import InMemory, Rows
from ipar._cluster import pool
from ipar._slots import check_kind, check_pointers, expression_matrix, raw_expression, slot_name
from ipar._streamed import StoredRows, Streamed, read_rows

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class ChunkSize:
    """How many rows are read at a time.

    Attributes
    ----------
    most_values
        Values of a chunk, 128 MB of float32, unless a single row, or block of a Dask array, has more.
    most_rows
        Its rows.
    """

    most_values: int = 1 << 25
    most_rows: int = 65_536

    def of_width(self, width: int) -> int:
        """Rows of so many values each."""
        return int(np.clip(self.most_values // max(width, 1), 1, self.most_rows))

    @classmethod
    def of_pool(cls) -> ChunkSize:
        """Small chunks for the workers of a cluster, so that all have some."""
        return cls() if pool().here else cls(most_values=1 << 22, most_rows=8192)


def expression_rows(adata: AnnData, layer: str | None, size: ChunkSize | None = None) -> Rows:
    """Expression in chunks of rows; sparse columns (CSC) of a file are read as a whole.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there is none, or it cannot be read, such as a Dask array of unknown chunks.
    OSError
        If its file is not there any more.
    """
    where, size = slot_name("layers", layer), size or ChunkSize.of_pool()
    try:
        raw = raw_expression(adata, layer)
    except OSError as error:
        msg = f"{where} cannot be read ({error}): look whether its file is still there, and open it again."
        raise OSError(msg) from error
    if isinstance(raw, CSRDataset):
        return _of_sparse(raw, where, size)
    module = type(raw).__module__.split(".")[0]
    if module in ("h5py", "zarr"):
        starts = np.append(np.arange(0, raw.shape[0], size.of_width(raw.shape[1])), raw.shape[0])
        return _stored(raw, where, starts)
    if hasattr(raw, "dask"):
        return _of_dask(raw, where, size)
    return InMemory(expression_matrix(adata, layer))


def _streamed(
    raw: Any,
    where: str,
    starts: NDArray[np.int64],
    read: Callable[[int, int], Any],
    afar: Callable[[int, int], Any] | None,
) -> Rows:
    check_kind(np.empty(0, dtype=raw.dtype), where)
    return Streamed((int(raw.shape[0]), int(raw.shape[1])), tuple(starts.tolist()), read, where, afar)


def _stored(raw: Any, where: str, starts: NDArray[np.int64]) -> Rows:
    """Rows of an open file, which workers open too, if they see it."""
    stored, width = None if pool().here else StoredRows.of(raw), int(raw.shape[1])
    afar = None if stored is None else lambda start, stop: partial(read_rows, stored, (start, stop), width, where)
    return _streamed(raw, where, starts, lambda start, stop: raw[start:stop], afar)


def _of_sparse(raw: Any, where: str, size: ChunkSize) -> Rows:
    pointers = check_pointers(raw.group, where)
    starts = [0]  # rows may differ much: those of a chunk have at most so many values, unless one row has more
    while starts[-1] < raw.shape[0]:
        end = int(np.searchsorted(pointers, pointers[starts[-1]] + size.most_values, side="right")) - 1
        starts.append(min(max(end, starts[-1] + 1), starts[-1] + size.most_rows, raw.shape[0]))
    return _stored(raw, where, np.array(starts))


def _of_dask(raw: Any, where: str, size: ChunkSize) -> Rows:
    """Whole blocks of rows, several small ones at a time: parts of a block would have it read more than once."""
    from dask.base import compute
    from dask.delayed import delayed

    if any(np.isnan(size) for sizes in raw.chunks for size in sizes):
        msg = (
            f"{where} is a Dask array of unknown chunks, found {raw.chunks}: call adata.X.compute_chunk_sizes() first."
        )
        raise ValueError(msg)
    edges = np.concatenate([[0], np.cumsum(raw.chunks[0])]).astype(np.int64)
    most = size.of_width(raw.shape[1])
    starts, last = [0], 0
    for edge, following in zip(edges[1:], np.append(edges[2:], edges[-1] + most + 1), strict=True):
        if edge > last and following - last > most:
            starts.append(last := int(edge))

    def blocks(start: int, stop: int) -> list[list[Any]]:
        first, end = np.searchsorted(edges, (start, stop))
        found: list[list[Any]] = np.atleast_2d(raw.blocks[first:end].to_delayed()).tolist()
        return found

    def read(start: int, stop: int) -> sparse.csr_matrix:
        (found,) = compute(blocks(start, stop))  # type: ignore[no-untyped-call]
        return _joined(found)

    def afar(start: int, stop: int) -> Any:
        key = f"ipar-read-{uuid4().hex}"
        width = int(raw.shape[1])
        return delayed(_read_blocks)(blocks(start, stop), (start, stop), width, where, dask_key_name=key)

    return _streamed(raw, where, np.array(starts), read, afar)


def _joined(blocks: list[list[Any]]) -> sparse.csr_matrix:
    rows = [[sparse.csr_matrix(block) for block in row] for row in blocks]
    return sparse.csr_matrix(sparse.bmat(rows, format="csr"))


def _read_blocks(blocks: list[list[Any]], ends: tuple[int, int], width: int, where: str) -> sparse.csr_matrix:
    """What a worker does with blocks that it has read."""
    return read_rows(lambda *_: _joined(blocks), ends, width, where)
