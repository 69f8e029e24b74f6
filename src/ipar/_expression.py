"""Reading expression from AnnData: checked, log-normalised, never changed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_TARGET_SUM = 1e4
_LOG_MAX = 30.0  # log1p of any real count is below; a larger value cannot be log-normalised


@dataclass(frozen=True)
class Expression:
    """Log-normalised expression and what it is called.

    Attributes
    ----------
    matrix
        CSR float32, ``(n_cells, n_genes)``.
    genes
        Names of the columns.
    """

    matrix: sparse.csr_matrix
    genes: pd.Index


def get_expression(adata: AnnData, *, layer: str | None = None, mask_var: str | None = None) -> Expression:
    """Read log-normalised expression without touching the object.

    Counts are recognised (whole numbers with a maximum above any log-normalised one's, or of many kinds) and
    log-normalised on the copy, with a warning.

    Parameters
    ----------
    adata
        Annotated data, of any matrix kind.
    layer
        Layer to read; ``X``, if None.
    mask_var
        Boolean column of ``var`` that selects genes; all, if None.

    Raises
    ------
    KeyError
        If the layer or the column is missing.
    TypeError
        If the matrix is lazy or not numeric.
    ValueError
        If names repeat, or values are negative, NaN or infinite.
    """
    _check_names(adata)
    matrix = _as_csr(adata, layer)
    genes = adata.var_names
    _check_values(matrix, "X" if layer is None else f"layers[{layer!r}]")
    matrix = _log_normalised(matrix)
    if mask_var is not None:
        if mask_var not in adata.var:
            msg = f"adata.var has no column {mask_var!r}: give the name of a boolean column, or mask_var=None for all genes."
            raise KeyError(msg)
        chosen = adata.var[mask_var].to_numpy(dtype=bool)
        matrix, genes = matrix[:, chosen], genes[chosen]
    return Expression(matrix, pd.Index(genes.astype(str)))


def _check_names(adata: AnnData) -> None:
    for names, attribute, remedy in (
        (adata.var_names, "var_names", "adata.var_names_make_unique()"),
        (adata.obs_names, "obs_names", "adata.obs_names_make_unique()"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            msg = f"adata.{attribute} must be unique, but {repeated!r} occurs more than once: call {remedy} first."
            raise ValueError(msg)


def _as_csr(adata: AnnData, layer: str | None) -> sparse.csr_matrix:
    if layer is not None and layer not in adata.layers:
        msg = f"adata.layers has no {layer!r}; it has {sorted(adata.layers)}."
        raise KeyError(msg)
    raw: Any = adata.X if layer is None else adata.layers[layer]
    if raw is None:
        msg = "adata.X is empty: put log-normalised expression there, or name a layer."
        raise ValueError(msg)
    if hasattr(raw, "to_memory"):  # backed
        raw = raw.to_memory()
    if not (isinstance(raw, np.ndarray) or sparse.issparse(raw)):
        msg = (
            f"Expression must be a numpy array or a scipy sparse matrix in memory, found {type(raw).__name__}: "
            "call adata.to_memory() (or .compute() on a dask array) first."
        )
        raise TypeError(msg)
    if not (np.issubdtype(raw.dtype, np.number) or raw.dtype == bool):
        msg = f"Expression must be numeric, found dtype {raw.dtype}."
        raise TypeError(msg)
    # float32 CSR is not copied: nothing below writes into it
    return sparse.csr_matrix(raw, dtype=np.float32)


def _check_values(matrix: sparse.csr_matrix, where: str) -> None:
    data = matrix.data
    if not np.isfinite(data).all():
        row, column = (int(i[0]) for i in _first(matrix, ~np.isfinite(data)))
        msg = (
            f"{where} has NaN or infinite values (the first at cell {row}, gene {column}): "
            "remove those cells, or set the values to 0."
        )
        raise ValueError(msg)
    if data.size and data.min() < 0:
        msg = (
            f"{where} has negative values (minimum {data.min():g}): log-normalised expression is expected, "
            "not scaled or residual values. Use the log-normalised matrix, e.g. a layer saved before sc.pp.scale."
        )
        raise ValueError(msg)


def _first(matrix: sparse.csr_matrix, bad: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    entry = np.flatnonzero(bad)[:1]
    return np.searchsorted(matrix.indptr, entry, side="right") - 1, matrix.indices[entry]


def _log_normalised(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    data = matrix.data
    if not data.size:
        return matrix
    whole = bool((data[:100_000] == np.round(data[:100_000])).all())
    if not whole and data.max() <= _LOG_MAX:
        return matrix
    if whole and data.max() <= 1:  # binary: neither counts nor logs; nothing to normalise
        return matrix
    if not whole:
        msg = (
            f"Expression reaches {data.max():g}, too much for log-normalised values: call sc.pp.log1p(adata), "
            "or name the layer that holds log-normalised expression."
        )
        raise ValueError(msg)
    warnings.warn(
        "Expression looks like raw counts; ipar works on log-normalised values and normalises a copy "
        f"(total {_TARGET_SUM:g} a cell, log1p). Call sc.pp.normalize_total and sc.pp.log1p to choose yourself.",
        UserWarning,
        stacklevel=4,
    )
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    matrix = sparse.csr_matrix(sparse.diags_array(_TARGET_SUM / np.maximum(totals, 1.0)) @ matrix, dtype=np.float32)
    matrix.data = np.log1p(matrix.data)
    return matrix


def warn_empty_cells(expression: Expression) -> None:
    """Warn of cells without any counts: nothing can be said of their place."""
    empty = int((expression.matrix.sum(axis=1) == 0).sum())  # not by stored entries, which may be zeros
    if empty:
        warnings.warn(
            f"{empty} of {expression.matrix.shape[0]} cells have no counts; their coordinates mean nothing. "
            "Filter them with sc.pp.filter_cells(adata, min_counts=1).",
            UserWarning,
            stacklevel=3,
        )
