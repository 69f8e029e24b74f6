"""Slots of AnnData, checked before compiled code reads them: it would end the process, or read memory of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData

_COMPRESSED = ("csr", "csc", "bsr")


def slot_name(slot: str, key: str | None) -> str:
    """Name of a slot in messages; no key of layers is ``X``."""
    return "X" if key is None else f"{slot}[{key!r}]"


def check_sparse(matrix: Any, where: str) -> None:
    """Raise ValueError if a sparse matrix has indices out of range, or pointers that do not rise; others pass."""
    if not sparse.issparse(matrix):
        return
    try:
        if matrix.format in _COMPRESSED:
            if matrix.indices.dtype.kind not in "iu" or matrix.indptr.dtype.kind not in "iu":
                msg = "indices must be integers"
                raise ValueError(msg)
            # another object of the same arrays, since the check prunes what is too long
            own = type(matrix)((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)
            own.check_format(full_check=True)
            if (own.indptr[1:] < own.indptr[:-1]).any():  # which the check of a matrix without values leaves out
                msg = "indptr must be a non-decreasing sequence"
                raise ValueError(msg)
        elif matrix.format == "coo":
            type(matrix)((matrix.data, matrix.coords), shape=matrix.shape, copy=False)
    except (IndexError, TypeError, ValueError) as error:
        msg = f"{where} is a broken sparse matrix ({error}): write it again from the matrix that it was made of."
        raise ValueError(msg) from error


def check_slots(adata: AnnData) -> None:
    """Raise ValueError if any sparse matrix of an AnnData is broken."""
    for where, value in _slots(adata):
        check_sparse(value, where)


def size_of(value: Any, each: int = 2000) -> int:
    """About how many bytes a file of an AnnData, or of any value in it, has without compression; ``each`` name takes some."""
    if hasattr(value, "obsm") and hasattr(value, "uns"):
        return size_of(dict(_slots(value)) | {"uns": value.uns, "obs": value.obs, "var": value.var})
    if isinstance(value, pd.DataFrame):
        return each * value.shape[1] + int(value.memory_usage(deep=True).sum())
    if isinstance(value, Mapping):
        return sum(size_of(one) for one in value.values())
    if sparse.issparse(value) and value.format in _COMPRESSED:
        return each + sum(int(one.nbytes) for one in (value.data, value.indices, value.indptr))
    return each + int(getattr(value, "nbytes", 0))


def _slots(adata: AnnData) -> Iterator[tuple[str, Any]]:
    yield "X", adata.X
    if adata.raw is not None:
        yield "raw.X", adata.raw.X
    for slot in ("layers", "obsm", "obsp", "varm", "varp"):
        for key, value in getattr(adata, slot).items():
            yield slot_name(slot, key), value
