"""The boundary to AnnData: everything below this module works on arrays."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("ipar")

EMBED = "X_ipar_embed"
EMBED_RECORD = "ipar_embed"
CANDIDATES = "ipar_candidates"
COORDS = "X_ipar"
RECYCLES = "X_ipar_recycles"
ATTENTION = "ipar_attention"
RECORD = "ipar"

MIN_CELLS = 50  # below, a slide has hardly any neighbourhoods to learn from
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


def get_slides(adata: AnnData, library_key: str | None, *, minimum: int = 1) -> pd.Categorical[Any]:
    """Read the slide of every cell.

    Parameters
    ----------
    adata
        Annotated data.
    library_key
        Categorical column of ``obs``; everything is one slide, if None.
    minimum
        Slides that are needed.

    Raises
    ------
    KeyError
        If the column is missing.
    TypeError
        If it is not categorical.
    ValueError
        If it has missing values, too few slides, or a slide of under 50 cells.
    """
    if library_key is None:
        slides: pd.Categorical[Any] = pd.Categorical(np.full(adata.n_obs, "all"))
    else:
        slides = _slide_column(adata, library_key)
    if len(slides.categories) < minimum:
        msg = (
            f"At least {minimum} slides are needed, obs[{library_key!r}] has {len(slides.categories)}: choices are made "
            "by leaving one slide out. Add a second section, or split a large one into separate regions."
        )
        raise ValueError(msg)
    return slides


def _slide_column(adata: AnnData, library_key: str) -> pd.Categorical[Any]:
    if library_key not in adata.obs:
        msg = f"adata.obs has no column {library_key!r}: name the column that tells the slides apart as library_key."
        raise KeyError(msg)
    column = adata.obs[library_key]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        msg = (
            f"obs[{library_key!r}] must be categorical, found dtype {column.dtype}: "
            f"adata.obs[{library_key!r}] = adata.obs[{library_key!r}].astype('category')."
        )
        raise TypeError(msg)
    if column.isna().any():
        msg = (
            f"obs[{library_key!r}] has {int(column.isna().sum())} missing values: give every cell a slide, or drop it."
        )
        raise ValueError(msg)
    return pd.Categorical(column.cat.remove_unused_categories())


def check_slide_sizes(slides: pd.Categorical, minimum: int = MIN_CELLS) -> None:
    """Raise ValueError where a slide has fewer than ``minimum`` cells."""
    counts = pd.Series(slides).value_counts()
    small = counts[counts < minimum]
    if len(small):
        listed = ", ".join(f"{name} ({count})" for name, count in small.items())
        msg = f"Every training slide needs at least {minimum} cells; too small: {listed}. Drop these slides."
        raise ValueError(msg)


def get_coords(adata: AnnData, spatial_key: str = "spatial") -> NDArray[np.float32]:
    """Read coordinates, float32 ``(n, 2)``, centred to keep the precision of large offsets.

    Raises
    ------
    KeyError
        If there are none.
    ValueError
        If they are not of shape ``(n, 2)``, not finite, or all the same.
    """
    if spatial_key not in adata.obsm:
        msg = f"adata.obsm has no {spatial_key!r}: training needs tissue coordinates; name their key as spatial_key."
        raise KeyError(msg)
    raw = adata.obsm[spatial_key]
    coords = np.asarray(raw.to_numpy() if isinstance(raw, pd.DataFrame) else raw)
    if coords.ndim != 2 or coords.shape[1] != 2:
        msg = f"obsm[{spatial_key!r}] must be of shape (n_cells, 2), found {coords.shape}: keep the two columns of the plane."
        raise ValueError(msg)
    coords = coords.astype(np.float64)
    if not np.isfinite(coords).all():
        n_bad = int((~np.isfinite(coords)).any(axis=1).sum())
        msg = f"obsm[{spatial_key!r}] has NaN or infinite values in {n_bad} cells: drop those cells first."
        raise ValueError(msg)
    return coords.astype(np.float32) if len(coords) == 0 else (coords - coords.mean(0)).astype(np.float32)


def check_distinct(coords: NDArray[np.float32], slides: pd.Categorical) -> None:
    """Raise ValueError where a slide's cells coincide; warn where many share a position."""
    for name in slides.categories:
        own = coords[slides == name]
        distinct = len(np.unique(own, axis=0))
        if distinct < max(4, len(own) // 20):
            msg = (
                f"Slide {name!r} has only {distinct} distinct positions for {len(own)} cells: "
                "there is no layout to learn. Check the coordinates, or drop the slide."
            )
            raise ValueError(msg)
        if distinct < len(own):
            warnings.warn(
                f"Slide {name!r}: {len(own) - distinct} of {len(own)} cells share a position with another cell.",
                UserWarning,
                stacklevel=3,
            )


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


def record(adata: AnnData) -> dict[str, Any]:
    """The run record ``uns["ipar"]``, made where it is missing."""
    # a new dict: that of a view is its parent's
    adata.uns[RECORD] = dict(adata.uns.get(RECORD, {}))
    return adata.uns[RECORD]  # type: ignore[no-any-return]


def to_uns(value: Any) -> Any:
    """Make a value fit to be written: no tuples, no None, no ``/`` in keys."""
    if isinstance(value, Mapping):
        return {_key(k): to_uns(v) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        return np.asarray(value)
    return value


def _key(key: Hashable) -> str:
    return str(key).replace("/", "_")
