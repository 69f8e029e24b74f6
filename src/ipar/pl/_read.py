"""Reading of AnnData for plots, with errors that name the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar._anndata import RECORD, plain_array, stored_record

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def run_record(adata: AnnData, key: str, remedy: str) -> Any:
    """Return the table or dictionary ``uns["ipar"][key]``, or raise an error that names `remedy`."""
    record = stored_record(adata)
    if key not in record:
        msg = f"adata.uns[{RECORD!r}] has no {key!r}: run {remedy} first."
        raise KeyError(msg)
    if not isinstance(record[key], Mapping | pd.DataFrame):
        msg = f"adata.uns[{RECORD!r}][{key!r}] must be what ipar wrote, found {type(record[key]).__name__}: run {remedy} again."
        raise TypeError(msg)
    return record[key]


def stored_array(adata: AnnData, key: str, remedy: str) -> NDArray[np.float64]:
    """Return ``obsm[key]`` as float64, or raise an error that ends with `remedy`."""
    if key not in adata.obsm:
        msg = f"adata.obsm has no {key!r}: {remedy}."
        raise KeyError(msg)
    return plain_array(adata.obsm[key], f"adata.obsm[{key!r}]").astype(np.float64)


def layout(adata: AnnData, key: str, remedy: str) -> NDArray[np.float64]:
    """Return the layout ``obsm[key]`` as float64, or raise an error that names `remedy`."""
    values = stored_array(adata, key, f"run {remedy} first")
    if values.ndim != 2 or values.shape[1] < 2 or values.shape[1] % 2:
        msg = f"adata.obsm[{key!r}] has shape {values.shape}, expected (n_obs, 2) or pairs of columns: run {remedy} again."
        raise ValueError(msg)
    return values


def true_positions(adata: AnnData, spatial_key: str | None) -> NDArray[np.float64] | None:
    """Return ``obsm[spatial_key]`` (n, 2), or None if the truth is unknown."""
    if spatial_key is None or spatial_key not in adata.obsm:
        return None
    values = plain_array(adata.obsm[spatial_key], f"adata.obsm[{spatial_key!r}]").astype(np.float64)
    if values.ndim != 2 or values.shape[1] != 2:
        msg = (
            f"adata.obsm[{spatial_key!r}] has shape {values.shape}, expected (n_obs, 2): keep the two coordinates in the "
            "plane of the section, or pass spatial_key=None to draw the prediction alone."
        )
        raise ValueError(msg)
    return values


def slides_of(adata: AnnData, library_key: str | None, *, needed: bool = False) -> NDArray[Any] | None:
    """Return the slide of every cell as text; None if no column is named, and there is none called ``"slide"``."""
    if library_key is None and "slide" in adata.obs:
        library_key = "slide"
    if library_key is None and not needed:
        return None
    if library_key not in adata.obs:
        msg = f"adata.obs has no slide column {library_key!r}, found {list(adata.obs)}: pass its name as library_key."
        raise KeyError(msg)
    labels: NDArray[Any] = adata.obs[library_key].astype(str).to_numpy()
    return labels


def cells_of_slide(adata: AnnData, library_key: str | None, slide: str | None) -> tuple[NDArray[np.intp], str | None]:
    """Return the rows of the slide to draw, and its name if there are several."""
    labels = slides_of(adata, library_key, needed=slide is not None)
    if labels is None:
        return np.arange(adata.n_obs), None
    names = list(dict.fromkeys(sorted(labels)))
    slide = names[0] if slide is None else slide
    if str(slide) not in names:
        msg = f"adata.obs[{library_key or 'slide'!r}] has no slide {slide!r}: pass one of {names} as slide."
        raise ValueError(msg)
    return np.flatnonzero(labels == str(slide)), str(slide) if len(names) > 1 else None


def read_slide(
    adata: AnnData, *layouts: NDArray[np.float64], spatial_key: str | None, library_key: str | None, slide: str | None
) -> tuple[NDArray[np.intp], str | None, NDArray[np.float64] | None]:
    """Return the rows of a slide with finite coordinates, its name, and the true positions, None if unknown."""
    rows, name = cells_of_slide(adata, library_key, slide)
    truth = true_positions(adata, spatial_key)
    if truth is not None and not np.isfinite(truth[rows]).all(axis=1).any():
        truth = None  # a slide of dissociated cells among others
    return finite_rows(rows, truth, *layouts), name, truth


def part_of_slide(table: pd.DataFrame, slide: str | None, what: str) -> pd.DataFrame:
    """Return the rows of a stored table that belong to a slide, all for None."""
    if slide is None:
        return table
    labels = table["slide"].astype(str)
    if str(slide) not in set(labels):
        msg = f"{what} has no slide {slide!r}: pass one of {list(dict.fromkeys(labels))} as slide."
        raise KeyError(msg)
    return table[labels == str(slide)]


def finite_rows(rows: NDArray[np.intp], *layouts: NDArray[np.float64] | None) -> NDArray[np.intp]:
    """Keep the rows with finite coordinates in all `layouts`."""
    keep = np.ones(len(rows), dtype=bool)
    for values in layouts:
        if values is not None:
            keep &= np.isfinite(values[rows]).all(axis=1)
    if not keep.any():
        msg = "no cell of this slide has finite coordinates in every layout: check adata.obsm, or choose another slide."
        raise ValueError(msg)
    return rows[keep]
