"""Reading expression from AnnData: checked, on one scale, never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from ipar._anndata import Keys, get_slides, plain_array, warn
from ipar._chunks import InMemory, Matrix, Rows, as_rows
from ipar._lazy import in_memory
from ipar._scaling import Target, on_one_scale
from ipar._slots import check_sparse, expression_matrix, slot_name
from ipar._sources import expression_rows
from ipar._streamed import Streamed
from ipar.model.genes import Naming, order_genes, rep_names, unique_names

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ipar.model import IGA, IPALite
    from ipar.model.scale import ExpressionScale


@dataclass(frozen=True)
class Expression:
    """Log-normalised expression, CSR float32 ``(n_cells, n_genes)``, and the names of its columns."""

    matrix: sparse.csr_matrix
    genes: pd.Index


@dataclass(frozen=True)
class Cells:
    """Expression of cells and the names of its genes, the slide of every cell, and the column of slides, if there is one."""

    matrix: Rows
    genes: pd.Index
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
        if model.encoder.use_rep is not None:
            given = given_expression(adata, model.encoder.use_rep)
            return cls(as_rows(given.matrix), given.genes, labels, keys.library_key)
        _check_names(adata)
        matrix = expression_rows(adata, keys.layer)
        matrix, genes = _checked(adata, matrix, _gene_names(adata, keys.gene_key), keys.layer, labels, model)
        warn_empty_cells(matrix)
        return cls(matrix, genes, labels, keys.library_key)

    def known_to(self, model: IPALite | IGA) -> Cells:
        """The same with the genes alone that a model knows, in its order."""
        genes = model.encoder.genes[model.encoder.genes.isin(self.genes)]
        return replace(self, matrix=as_rows(order_genes(self.matrix, self.genes, genes)), genes=genes)

    @property
    def arrays(self) -> tuple[Rows, pd.Index, pd.Categorical]:
        """Matrix, genes and slides: what an encoder takes."""
        return self.matrix, self.genes, self.labels


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
    own = InMemory(expression_matrix(adata, layer))
    genes = _gene_names(adata, gene_key)
    chosen = _mask(adata, mask_var)
    labels = get_slides(adata, None) if labels is None else labels
    found, genes = _checked(adata, own, genes, layer, labels, model)
    matrix = found.whole()
    return Expression(matrix, genes) if chosen is None else Expression(matrix[:, chosen], genes[chosen])


def _checked(
    adata: AnnData,
    matrix: Rows,
    genes: pd.Index,
    layer: str | None,
    labels: pd.Categorical[Any],
    model: IPALite | IGA | None,
) -> tuple[Rows, pd.Index]:
    """Expression on one scale, and genes with the model's names for them, if there is a model."""
    has_raw, target = adata.raw is not None, None
    _check_values(matrix, slot_name("layers", layer), has_raw, None if model is None else model.scale)
    if model is not None:
        known = model.encoder.genes
        genes = Naming().matched(genes, known, adata.var)
        target = None if model.scale is None else Target.of_model(model.scale, known, genes)
    return on_one_scale(matrix, labels, target, has_raw), genes


def given_expression(adata: AnnData, use_rep: str) -> Expression:
    """An embedding in ``obsm``, its columns in the place of genes."""
    if use_rep not in adata.obsm:
        msg = f"adata.obsm has no {use_rep!r}, found {sorted(adata.obsm)}: embed the cells, or name another key as use_rep."
        raise KeyError(msg)
    raw: Any = in_memory(adata.obsm[use_rep])
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
    column = adata.var[mask_var]
    if not pd.api.types.is_bool_dtype(column.dtype) or column.isna().any():
        found = f"{int(column.isna().sum())} missing values" if column.isna().any() else f"dtype {column.dtype}"
        msg = (
            f"adata.var[{mask_var!r}] must hold True or False for every gene, found {found}: make it boolean, such as by "
            f"adata.var[{mask_var!r}] = adata.var[{mask_var!r}] == 'True' for words."
        )
        raise TypeError(msg)
    chosen: NDArray[np.bool_] = column.to_numpy(dtype=bool)
    if chosen.sum() < 2:
        msg = f"adata.var[{mask_var!r}] must be True for two genes or more, found {int(chosen.sum())}: choose genes, or leave out mask_var."
        raise ValueError(msg)
    return chosen


def _check_names(adata: AnnData) -> None:
    for names, attribute, remedy in (
        (adata.var_names, "var_names", "adata.var_names_make_unique()"),
        (adata.obs_names, "obs_names", "adata.obs_names_make_unique()"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            msg = f"adata.{attribute} must be unique, found {repeated!r} more than once: call {remedy} first."
            raise ValueError(msg)


def _check_values(matrix: Rows, where: str, has_raw: bool, scale: ExpressionScale | None) -> None:
    smallest, largest = matrix.survey.smallest, matrix.survey.largest
    if isinstance(matrix, Streamed) and not matrix.survey.sizes.any():  # so a zarr store reads that is not there
        msg = f"{where} has no values other than zero: look whether its file is still there, and open it again."
        raise OSError(msg)
    if not np.isfinite([smallest, largest]).all():
        row, column = _first_not_finite(matrix)
        msg = (
            f"{where} has NaN or infinite values, the first found at cell {row}, gene {column}: "
            "remove these cells, or set the values to 0."
        )
        raise ValueError(msg)
    if smallest < 0:
        start = "start from adata.raw.to_adata()" if has_raw else "start from the counts"
        total = f"target_sum={scale.total:.6g}" if scale is not None and scale.even else "target_sum=1e4"
        msg = (
            f"{where} must hold log-normalised expression, not scaled values or residuals, found a minimum of "
            f"{smallest:g}: use the matrix from before sc.pp.scale. Or {start}: call sc.pp.normalize_total(adata, {total}), "
            "then sc.pp.log1p(adata)."
        )
        raise ValueError(msg)


def _first_not_finite(matrix: Rows) -> tuple[int, int]:
    """Cell and gene of the first value that is NaN or infinite."""
    for own, chunk in matrix.chunks():
        entry = np.flatnonzero(~np.isfinite(chunk.data))[:1]
        if len(entry):
            row = np.searchsorted(chunk.indptr, entry, side="right") - 1
            return int(own[row][0]), int(chunk.indices[entry][0])
    msg = "all values are finite"
    raise AssertionError(msg)


def warn_empty_cells(matrix: Matrix) -> None:
    """Warn of cells without counts."""
    sizes = as_rows(matrix).survey.sizes
    empty = int((sizes == 0).sum())
    if empty:
        warn(
            f"{empty} of {len(sizes)} cells have no counts; their coordinates mean nothing. "
            "Remove them with sc.pp.filter_cells(adata, min_counts=1)."
        )
