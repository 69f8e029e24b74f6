"""Reading expression from AnnData: checked, log-normalised, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from ipar._anndata import get_slides, warn

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Expression:
    """Log-normalised expression, CSR float32 ``(n_cells, n_genes)``, and the names of its columns."""

    matrix: sparse.csr_matrix
    genes: pd.Index


@dataclass(frozen=True)
class Cells:
    """Expression of cells, the slide of every cell, and the column of slides, if there is one."""

    expression: Expression
    labels: pd.Categorical
    library_key: str | None

    @classmethod
    def read(cls, adata: AnnData, library_key: str | None, layer: str | None, use_rep: str | None = None) -> Cells:
        """Read them without changing the object; with ``use_rep``, an embedding in the place of expression."""
        if use_rep is None:
            expression = get_expression(adata, layer=layer)
            warn_empty_cells(expression)
        else:
            expression = given_expression(adata, use_rep)
        return cls(expression, get_slides(adata, library_key), library_key)

    @property
    def arrays(self) -> tuple[sparse.csr_matrix, pd.Index, pd.Categorical]:
        """Matrix, genes and slides: what an encoder takes."""
        return self.expression.matrix, self.expression.genes, self.labels


def get_expression(adata: AnnData, *, layer: str | None = None, mask_var: str | None = None) -> Expression:
    """Read and check log-normalised expression; raw counts are normalised on a copy, with a warning."""
    _check_names(adata)
    matrix = _as_csr(adata, layer)
    genes = adata.var_names
    _check_values(matrix, "X" if layer is None else f"layers[{layer!r}]")
    matrix = _log_normalised(matrix)
    if mask_var is not None:
        if mask_var not in adata.var:
            msg = f"adata.var has no column {mask_var!r}: name a boolean column as mask_var, or leave it out for all genes."
            raise KeyError(msg)
        chosen = adata.var[mask_var].to_numpy(dtype=bool)
        matrix, genes = matrix[:, chosen], genes[chosen]
    return Expression(matrix, pd.Index(genes.astype(str)))


def given_expression(adata: AnnData, use_rep: str) -> Expression:
    """An embedding in ``obsm``, its columns in the place of genes."""
    if use_rep not in adata.obsm:
        msg = f"adata.obsm has no {use_rep!r}, found {sorted(adata.obsm)}: embed the cells, or name another key as use_rep."
        raise KeyError(msg)
    raw: Any = adata.obsm[use_rep]
    x = np.asarray(raw.toarray() if sparse.issparse(raw) else raw, dtype=np.float32)
    if x.ndim != 2 or x.shape[1] < 2 or not np.isfinite(x).all():
        msg = f"obsm[{use_rep!r}] must hold two finite columns or more, found shape {x.shape}: remove cells without values."
        raise ValueError(msg)
    return Expression(sparse.csr_matrix(x), rep_names(use_rep, x.shape[1]))


def rep_names(use_rep: str, width: int) -> pd.Index:
    """Names of the columns of an embedding."""
    return pd.Index([f"{use_rep}_{i}" for i in range(width)])


def _check_names(adata: AnnData) -> None:
    for names, attribute, remedy in (
        (adata.var_names, "var_names", "adata.var_names_make_unique()"),
        (adata.obs_names, "obs_names", "adata.obs_names_make_unique()"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            msg = f"adata.{attribute} must be unique, found {repeated!r} more than once: call {remedy} first."
            raise ValueError(msg)


def _as_csr(adata: AnnData, layer: str | None) -> sparse.csr_matrix:
    if layer is not None and layer not in adata.layers:
        msg = f"adata.layers has no {layer!r}, found {sorted(adata.layers)}: name one of these as layer."
        raise KeyError(msg)
    raw: Any = adata.X if layer is None else adata.layers[layer]
    if raw is None:
        msg = "adata.X is empty: store log-normalised expression in it, or name a layer."
        raise ValueError(msg)
    if hasattr(raw, "to_memory"):  # backed
        raw = raw.to_memory()
    if not (isinstance(raw, np.ndarray) or sparse.issparse(raw)):
        msg = (
            f"Expression must be a numpy array or a scipy sparse matrix in memory, found {type(raw).__name__}: "
            "call adata.to_memory() first, or .compute() on a dask array."
        )
        raise TypeError(msg)
    if not (np.issubdtype(raw.dtype, np.number) or raw.dtype == bool):
        msg = f"Expression must be numeric, found dtype {raw.dtype}: convert it, for example to float32."
        raise TypeError(msg)
    # not copied if it is float32 CSR already: nothing below writes into it
    return sparse.csr_matrix(raw, dtype=np.float32)


def _check_values(matrix: sparse.csr_matrix, where: str) -> None:
    data = matrix.data
    if not np.isfinite(data).all():
        row, column = (int(i[0]) for i in _first(matrix, ~np.isfinite(data)))
        msg = (
            f"{where} has NaN or infinite values, the first found at cell {row}, gene {column}: "
            "remove these cells, or set the values to 0."
        )
        raise ValueError(msg)
    if data.size and data.min() < 0:
        msg = (
            f"{where} must hold log-normalised expression, not scaled values or residuals, found a minimum of "
            f"{data.min():g}: use the matrix from before sc.pp.scale."
        )
        raise ValueError(msg)


def _first(matrix: sparse.csr_matrix, bad: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    entry = np.flatnonzero(bad)[:1]
    return np.searchsorted(matrix.indptr, entry, side="right") - 1, matrix.indices[entry]


def _log_normalised(matrix: sparse.csr_matrix, target_sum: float = 1e4, log_max: float = 30.0) -> sparse.csr_matrix:
    """Log-normalise whole numbers above 1; other values above `log_max` can be no logarithms of counts."""
    data = matrix.data
    if not data.size:
        return matrix
    whole = bool((data[:100_000] == np.round(data[:100_000])).all())
    if data.max() <= (1 if whole else log_max):
        return matrix
    if not whole:
        msg = (
            f"Expression must be log-normalised, found a maximum of {data.max():g}: call sc.pp.log1p(adata), "
            "or name the layer that holds log-normalised expression."
        )
        raise ValueError(msg)
    warn(
        f"Expression looks like raw counts; ipar uses log-normalised values and normalises a copy (total {target_sum:g} "
        "per cell, log1p). Call sc.pp.normalize_total and sc.pp.log1p first to choose the normalisation."
    )
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    matrix = sparse.csr_matrix(sparse.diags_array(target_sum / np.maximum(totals, 1.0)) @ matrix, dtype=np.float32)
    matrix.data = np.log1p(matrix.data)
    return matrix


def warn_empty_cells(expression: Expression) -> None:
    """Warn of cells without counts."""
    empty = int((expression.matrix.sum(axis=1) == 0).sum())  # not by stored entries, which may be zeros
    if empty:
        warn(
            f"{empty} of {expression.matrix.shape[0]} cells have no counts; their coordinates mean nothing. "
            "Remove them with sc.pp.filter_cells(adata, min_counts=1)."
        )
