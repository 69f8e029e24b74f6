"""Slots of AnnData, checked before compiled code reads them: it would end the process, or read memory of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
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


def check_pointers(group: Any, where: str) -> NDArray[np.int64]:
    """Pointers of rows of a CSR matrix in a file; raises ValueError if they do not fit what is stored."""
    pointers, size = np.asarray(group["indptr"][:]), group["data"].shape
    rising = pointers.ndim == 1 and pointers.dtype.kind in "iu" and (np.diff(pointers.astype(np.int64)) >= 0).all()
    fits = len(pointers) == group.attrs["shape"][0] + 1 and size == group["indices"].shape == (pointers[-1],)
    if not (rising and fits and pointers[0] == 0):
        msg = (
            f"{where} is a broken sparse matrix (indptr must be a non-decreasing sequence from 0 to the number of values): write "
            "it again from the matrix that it was made of."
        )
        raise ValueError(msg)
    return pointers.astype(np.int64)


def raw_expression(adata: AnnData, layer: str | None) -> Any:
    """Expression as it is stored.

    Raises
    ------
    KeyError, ValueError
        If there is none, or it is broken.
    """
    if layer is not None and layer not in adata.layers:
        msg = f"adata.layers has no {layer!r}, found {sorted(adata.layers)}: name one of these as layer."
        raise KeyError(msg)
    where = slot_name("layers", layer)
    if (whole := getattr(adata, "_adata_ref", None)) is not None:  # of a view, whose rows compiled code would take
        check_sparse(whole.X if layer is None else whole.layers[layer], where)
    raw: Any = adata.X if layer is None else adata.layers[layer]
    if raw is None:
        msg = "adata.X is empty: store log-normalised expression in it, or name a layer."
        raise ValueError(msg)
    return raw


def expression_matrix(adata: AnnData, layer: str | None) -> sparse.csr_matrix:
    """Expression as float32 CSR with sorted indices and without stored zeros; never written to.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there is none, or it cannot be read.
    """
    raw = raw_expression(adata, layer)
    return canonical(raw.to_memory() if hasattr(raw, "to_memory") else raw, slot_name("layers", layer))


def canonical(raw: Any, where: str) -> sparse.csr_matrix:
    """A matrix as float32 CSR with sorted indices and without stored zeros; raises TypeError or ValueError if it is none."""
    check_kind(raw, where)
    check_sparse(raw, where)
    matrix = sparse.csr_matrix(raw, dtype=np.float32)  # not copied if it is float32 CSR already
    stored_zeros = bool((matrix.data == 0).any())
    if stored_zeros or not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()  # stored or not, a zero is the same value
    return matrix


def check_kind(raw: Any, where: str) -> None:
    """Raise TypeError unless it is a numpy array or scipy matrix of numbers."""
    kind, module = type(raw).__name__, type(raw).__module__.split(".")[0]
    if isinstance(raw, np.ma.MaskedArray) or not (isinstance(raw, np.ndarray) or sparse.issparse(raw)):
        remedies = {
            "cupy": "move it to the CPU by .get(), or by rapids_singlecell.get.anndata_to_CPU(adata)",
            "cupyx": "move it to the CPU by .get(), or by rapids_singlecell.get.anndata_to_CPU(adata)",
            "dask": "call .compute()",
            "numpy": "fill what is masked by .filled(0), if it was not measured, or remove these cells",
        }
        remedy = remedies.get(module, "call adata.to_memory() first")
        msg = f"{where} must be a numpy array or a scipy sparse matrix in memory, found {module}'s {kind}: {remedy}."
        raise TypeError(msg)
    if raw.dtype.kind not in "biuf":
        msg = f"{where} must hold real numbers, found dtype {raw.dtype}: convert it by .astype('float32')."
        raise TypeError(msg)


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
