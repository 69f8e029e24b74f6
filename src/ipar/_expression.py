"""Reading expression from AnnData: checked, on one scale, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from ipar._anndata import Keys, get_slides, plain_array, warn
from ipar._scaling import Target, on_one_scale
from ipar._slots import check_sparse, slot_name
from ipar.model.genes import Naming, rep_names, unique_names

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ipar.model import IGA, IPALite


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
    def read(
        cls,
        adata: AnnData,
        model: IPALite | IGA,
        keys: Keys,
    ) -> Cells:
        """Read what a model takes, without changing the object: expression on its scale, or an embedding."""
        labels = get_slides(adata, keys.library_key)
        if model.encoder.use_rep is None:
            expression = get_expression(adata, layer=keys.layer, gene_key=keys.gene_key, labels=labels, model=model)
            warn_empty_cells(expression)
        else:
            expression = given_expression(adata, model.encoder.use_rep)
        return cls(expression, labels, keys.library_key)

    @property
    def arrays(self) -> tuple[sparse.csr_matrix, pd.Index, pd.Categorical]:
        """Matrix, genes and slides: what an encoder takes."""
        return self.expression.matrix, self.expression.genes, self.labels


def check_cells(cells: Cells, minimum: int, otherwise: str) -> None:
    """Raise ValueError, which names the slide, if one has too few cells for a layout."""
    counts = pd.Series(cells.labels).value_counts()
    small = counts[(counts > 0) & (counts < minimum)]
    if len(small):
        where = "" if cells.library_key is None else f" in slide {small.index[0]!r}"
        msg = (
            f"At least {minimum} cells are needed for a layout, found {small.iloc[0]}{where}: add cells of the same slide, or "
            f"{otherwise}."
        )
        raise ValueError(msg)


def get_expression(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: str | None = None,
    gene_key: str | None = None,
    labels: pd.Categorical[Any] | None = None,
    model: IPALite | IGA | None = None,
) -> Expression:
    """Read and check expression, with all slides on one scale.

    With a model, that is the model's, and genes have its names. Without, it is that of most slides, or for counts 10,000 per
    cell. What differs is converted on a copy, with a warning.
    """
    _check_names(adata)
    matrix = _as_csr(adata, layer)
    genes = _gene_names(adata, gene_key)
    chosen = _mask(adata, mask_var)
    has_raw = adata.raw is not None
    _check_values(matrix, slot_name("layers", layer), has_raw)
    target = None
    if model is not None:
        known = model.encoder.genes
        genes = Naming().matched(genes, known, adata.var)
        target = None if model.scale is None else Target.of_model(model.scale, known, genes)
    labels = get_slides(adata, None) if labels is None else labels
    matrix = on_one_scale(matrix, labels, target, has_raw)
    return Expression(matrix, genes) if chosen is None else Expression(matrix[:, chosen], genes[chosen])


def given_expression(adata: AnnData, use_rep: str) -> Expression:
    """An embedding in ``obsm``, its columns in the place of genes."""
    if use_rep not in adata.obsm:
        msg = f"adata.obsm has no {use_rep!r}, found {sorted(adata.obsm)}: embed the cells, or name another key as use_rep."
        raise KeyError(msg)
    raw: Any = adata.obsm[use_rep]
    check_sparse(raw, slot_name("obsm", use_rep))
    x = plain_array(raw.toarray() if sparse.issparse(raw) else raw, f"obsm[{use_rep!r}]").astype(np.float32)
    if x.ndim != 2 or x.shape[1] < 2 or not np.isfinite(x).all():
        msg = f"obsm[{use_rep!r}] must hold two finite columns or more, found shape {x.shape}: remove cells without values."
        raise ValueError(msg)
    return Expression(sparse.csr_matrix(x), rep_names(use_rep, x.shape[1]))


def _gene_names(adata: AnnData, gene_key: str | None) -> pd.Index:
    """Names of genes, from a column of ``var`` if one is given; those that it lacks keep their own."""
    own: pd.Index = pd.Index(adata.var_names.astype(str))
    if gene_key is None:
        return own
    if gene_key not in adata.var:
        msg = f"adata.var has no column {gene_key!r}, found {sorted(adata.var)}: name one with gene names as gene_key."
        raise KeyError(msg)
    column = adata.var[gene_key]
    return unique_names(pd.Index(np.where(column.isna(), own, column.astype(str))), f"adata.var[{gene_key!r}]")


def _mask(adata: AnnData, mask_var: str | None) -> NDArray[np.bool_] | None:
    if mask_var is None:
        return None
    if mask_var not in adata.var:
        msg = f"adata.var has no column {mask_var!r}: name a boolean column as mask_var, or leave it out for all genes."
        raise KeyError(msg)
    return np.asarray(adata.var[mask_var].to_numpy(dtype=bool))


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
    if (whole := getattr(adata, "_adata_ref", None)) is not None:  # of a view, whose rows compiled code would take
        check_sparse(whole.X if layer is None else whole.layers[layer], slot_name("layers", layer))
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
    check_sparse(raw, slot_name("layers", layer))
    # not copied if it is float32 CSR already: nothing below writes into it
    matrix = sparse.csr_matrix(raw, dtype=np.float32)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _check_values(matrix: sparse.csr_matrix, where: str, has_raw: bool) -> None:
    data = matrix.data
    if not np.isfinite(data).all():
        row, column = (int(i[0]) for i in _first(matrix, ~np.isfinite(data)))
        msg = (
            f"{where} has NaN or infinite values, the first found at cell {row}, gene {column}: "
            "remove these cells, or set the values to 0."
        )
        raise ValueError(msg)
    if data.size and data.min() < 0:
        start = ", or start from adata.raw.to_adata()" if has_raw else ""
        msg = (
            f"{where} must hold log-normalised expression, not scaled values or residuals, found a minimum of "
            f"{data.min():g}: use the matrix from before sc.pp.scale{start}."
        )
        raise ValueError(msg)


def _first(matrix: sparse.csr_matrix, bad: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    entry = np.flatnonzero(bad)[:1]
    return np.searchsorted(matrix.indptr, entry, side="right") - 1, matrix.indices[entry]


def warn_empty_cells(expression: Expression) -> None:
    """Warn of cells without counts."""
    empty = int((expression.matrix.sum(axis=1) == 0).sum())  # not by stored entries, which may be zeros
    if empty:
        warn(
            f"{empty} of {expression.matrix.shape[0]} cells have no counts; their coordinates mean nothing. "
            "Remove them with sc.pp.filter_cells(adata, min_counts=1)."
        )
