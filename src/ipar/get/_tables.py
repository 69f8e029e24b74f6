"""Tables of what ipar wrote to an AnnData."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ipar._anndata import (
    BELONGS,
    COORDS,
    MAP_CONFIDENCE,
    MAP_SIMILARITY,
    plain_array,
    reference_key,
    stored_record,
    uncertainty_key,
)
from ipar._public import public

if TYPE_CHECKING:
    from anndata import AnnData

_AXES = ("x", "y", "z")
_OF_MODEL = ("format", "format_version")


@public
def record(adata: AnnData) -> pd.DataFrame:
    """What ipar recorded in ``uns["ipar"]``, one row per value.

    Parameters
    ----------
    adata
        Annotated data.

    Returns
    -------
    DataFrame
        ``part, entry, value``: the part of the record, such as ``"fit"``, the name of the value in it, with a slash for each
        dictionary in between, and the value. Of tables and arrays, the value is their size, such as ``"table (8, 12)"``. Read
        these themselves from ``adata.uns["ipar"]``.

    Raises
    ------
    KeyError
        If there is no record.
    """
    found = stored_record(adata)
    if not found:
        msg = "adata.uns has no 'ipar': run ipar.tl.fit_ipalite or ipar.tl.predict_coords first."
        raise KeyError(msg)
    if "model" in found:  # of its arrays, nothing can be read by eye
        found = {**found, "model": {name: found["model"][name] for name in _OF_MODEL if name in found["model"]}}
    rows = [(part, name, value) for part, whole in found.items() for name, value in _entries(whole)]
    return pd.DataFrame(rows, columns=["part", "entry", "value"])


@public
def coords(adata: AnnData, key: str = COORDS) -> pd.DataFrame:
    """Coordinates of cells.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key of the coordinates in ``obsm``: predicted ones, such as ``"X_ipar_reference"``, or true ones.

    Returns
    -------
    DataFrame
        ``x, y`` and, in three dimensions, ``z``, float64, with the names of cells as index.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are none under this key, or if they are not two or three columns of numbers.
    """
    if key not in adata.obsm:
        msg = f"adata.obsm has no {key!r}: run ipar.tl.predict_coords first, or name other coordinates as key."
        raise KeyError(msg)
    values = plain_array(adata.obsm[key], f"obsm[{key!r}]").astype(np.float64)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        msg = f"obsm[{key!r}] must have two or three columns, found shape {values.shape}: name coordinates as key."
        raise ValueError(msg)
    return pd.DataFrame(values, index=adata.obs_names, columns=list(_AXES[: values.shape[1]]))


@public
def points(adata: AnnData, key: str = COORDS, *, to_coordinate_system: str | None = None) -> Any:
    """Coordinates of cells as a points element of SpatialData.

    Parameters
    ----------
    adata
        Cells that were placed.
    key
        Key of the coordinates in ``obsm``.
    to_coordinate_system
        Coordinate system that the coordinates are in (default: one called as the key, since a layout has a frame of its own).
        For coordinates on a reference, it is that of the coordinates which the model was fitted on.

    Returns
    -------
    dask.dataframe.DataFrame
        ``x, y`` and, in three dimensions, ``z``; ``cell``, the names of the cells; the columns of :func:`uncertainty` that
        there are. Cells without coordinates are left out.

    Raises
    ------
    ImportError
        If spatialdata is not installed (``pip install "ipar[spatialdata]"``).
    KeyError, TypeError, ValueError
        As :func:`coords`.

    Examples
    --------
    >>> sdata["ipar"] = ipar.get.points(sdata)  # doctest: +SKIP
    >>> sdata.write_element("ipar")  # doctest: +SKIP
    """
    spatialdata = import_spatialdata()
    table = coords(adata, key)
    if uncertainty_key(key) in adata.obs:
        table = table.join(uncertainty(adata, key))
    table = table.assign(cell=adata.obs_names.astype(str))[np.isfinite(table["x"])].reset_index(drop=True)
    identity = spatialdata.transformations.Identity()
    return spatialdata.models.PointsModel.parse(table, transformations={to_coordinate_system or key: identity})


def import_spatialdata() -> Any:
    """The package, or ImportError that names the extra."""
    try:
        import spatialdata
        import spatialdata.models
        import spatialdata.transformations
    except ImportError as error:
        msg = f'SpatialData objects need spatialdata ({error}): install it with pip install "ipar[spatialdata]".'
        raise ImportError(msg) from error
    return spatialdata


@public
def uncertainty(adata: AnnData, key: str = COORDS) -> pd.DataFrame:
    """How sure the coordinates of cells are.

    Parameters
    ----------
    adata
        Cells that were placed.
    key
        Key of the predicted coordinates in ``obsm``.

    Returns
    -------
    DataFrame
        Columns of ``obs``, those that are there, with the names of cells as index: the expected error in RMS radii of the
        tissue (``"ipar_uncertainty"``), and in units of the reference (``"ipar_uncertainty_reference"``); whether cells
        belong to the tissue (``"ipar_belongs"``); how concentrated and how like the places are that match them
        (``"ipar_map_confidence"``, ``"ipar_map_similarity"``).

    Raises
    ------
    KeyError
        If there is no uncertainty of these coordinates.
    """
    own = uncertainty_key(key)
    if own not in adata.obs:
        msg = f"adata.obs has no {own!r}: run ipar.tl.predict_coords first, or name its coordinates as key."
        raise KeyError(msg)
    names = (own, reference_key(own), BELONGS, MAP_CONFIDENCE, MAP_SIMILARITY)
    return pd.DataFrame(adata.obs[[name for name in names if name in adata.obs]]).copy()


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a dictionary, those of dictionaries in it with a path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entries(inner, f"{name}/{key}" if name else str(key))
    else:
        yield name, _shown(value)


def _shown(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return f"table {value.shape}"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array {value.shape}"
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
