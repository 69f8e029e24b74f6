"""Reading AnnData: keys, slides and coordinates, checked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

EMBED = "X_ipar_embed"
EMBED_RECORD = "ipar_embed"
GLOBAL_SUFFIX = "_global"  # of the key of the embedding that it stands beside
GENE_WEIGHT = "ipar_gene_weight"
CANDIDATES = "ipar_candidates"
COORDS = "X_ipar"
RECYCLES = "X_ipar_recycles"
RECORD = "ipar"
ELLIPSE = "ellipse"
PART = "ipar_part"
SECTION = "section"
SAMPLES = "X_ipar_samples"
UNCERTAINTY = "ipar_uncertainty"
BELONGS = "ipar_belongs"
MAP = "ipar_map"
MAP_CONFIDENCE = "ipar_map_confidence"
MAP_SIMILARITY = "ipar_map_similarity"

ELLIPSE_COLUMNS = {
    2: ("offset_x", "offset_y", "sd_major", "sd_minor", "angle"),
    3: (
        *("offset_x", "offset_y", "offset_z", "sd_major", "sd_middle", "sd_minor"),
        *("rotvec_x", "rotvec_y", "rotvec_z"),
    ),
}
"""Columns of a table of ellipses: offset of the centre from the cell's position, standard deviations along the axes, and
the rotation of the axes in radians."""


@dataclass(frozen=True)
class Source:
    """Where an AnnData holds training slides: arguments of public functions, as these document them."""

    library_key: str | None
    spatial_key: str = "spatial"
    layer: str | None = None
    mask_var: str | None = None
    given_rep: str | None = None
    gene_key: str | None = None


@dataclass(frozen=True)
class Keys:
    """Where an AnnData holds cells for a model: arguments of public functions, as these document them."""

    library_key: str | None = None
    layer: str | None = None
    gene_key: str | None = None


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller outside ipar."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ipar."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def uncertainty_key(layout: str) -> str:
    """Column of ``obs`` with the uncertainty of the layout ``obsm[layout]``."""
    return UNCERTAINTY if layout == COORDS else f"{layout}_uncertainty"


def region_keys(layout: str) -> tuple[str, str]:
    """Keys of ``obsm`` with the places and the radii of the regions of the layout ``obsm[layout]``."""
    return f"{layout}_regions", f"{layout}_regions_radii"


def reference_key(layout: str) -> str:
    """Key of what a layout is, or of its uncertainty, in the frame and units of a reference."""
    return f"{layout}_reference"


def get_slides(adata: AnnData, library_key: str | None, *, minimum: int = 1) -> pd.Categorical[Any]:
    """Read the slide of every cell; all cells are one slide if there is no key."""
    if adata.n_obs == 0:
        msg = "adata has no cells: check the step that selected them."
        raise ValueError(msg)
    if library_key is None:
        slides: pd.Categorical[Any] = pd.Categorical(np.full(adata.n_obs, "all"))
    else:
        slides = _slide_column(adata, library_key)
    if len(slides.categories) < minimum:
        msg = (
            f"At least {minimum} slides are needed, found {len(slides.categories)} in obs[{library_key!r}]: "
            "add another section, or split a large one into separate regions."
        )
        raise ValueError(msg)
    return slides


def _slide_column(adata: AnnData, library_key: str) -> pd.Categorical[Any]:
    if library_key not in adata.obs:
        msg = f"adata.obs has no column {library_key!r}: name the column with the slide of each cell as library_key."
        raise KeyError(msg)
    column = adata.obs[library_key]
    if pd.api.types.is_string_dtype(column.dropna()):  # as in scanpy, but on a copy
        column = column.astype("category")
    if not isinstance(column.dtype, pd.CategoricalDtype):
        msg = (
            f"obs[{library_key!r}] must be categorical or of strings, found dtype {column.dtype}: "
            f"adata.obs[{library_key!r}] = adata.obs[{library_key!r}].astype('category')."
        )
        raise TypeError(msg)
    if column.isna().any():
        msg = (
            f"obs[{library_key!r}] must have a slide for every cell, found {int(column.isna().sum())} missing values: "
            "fill them, or remove these cells."
        )
        raise ValueError(msg)
    slides = pd.Categorical(column.cat.remove_unused_categories())
    names = slides.categories.astype(str)
    if not names.is_unique:
        twice = names[names.duplicated()][0]
        msg = (
            f"obs[{library_key!r}] has two slides of one name, {twice!r}, once as text and once as a number: "
            f"adata.obs[{library_key!r}] = adata.obs[{library_key!r}].astype(str).astype('category') joins them."
        )
        raise ValueError(msg)
    return slides


def get_coords(adata: AnnData, spatial_key: str = "spatial", *, dims: tuple[int, ...] = (2,)) -> NDArray[np.float32]:
    """Read coordinates, float32 ``(n, d)`` with d in `dims`, centred to keep their precision."""
    coords = raw_coords(adata, spatial_key, dims=dims)
    return coords.astype(np.float32) if len(coords) == 0 else (coords - coords.mean(0)).astype(np.float32)


def raw_coords(adata: AnnData, spatial_key: str = "spatial", *, dims: tuple[int, ...] = (2,)) -> NDArray[np.float64]:
    """Read coordinates as they are, ``(n, d)`` with d in `dims`."""
    if spatial_key not in adata.obsm:
        msg = f"adata.obsm has no {spatial_key!r}: name the key of the coordinates as spatial_key."
        raise KeyError(msg)
    coords = plain_array(adata.obsm[spatial_key], f"obsm[{spatial_key!r}]")
    if coords.ndim != 2 or coords.shape[1] not in dims:
        wanted = " or ".join(f"(n_cells, {d})" for d in dims)
        msg = f"obsm[{spatial_key!r}] must have shape {wanted}, found {coords.shape}: keep the columns of coordinates."
        raise ValueError(msg)
    coords = coords.astype(np.float64)
    if not np.isfinite(coords).all():
        n_bad = int((~np.isfinite(coords)).any(axis=1).sum())
        msg = (
            f"obsm[{spatial_key!r}] must be finite, found NaN or infinite values in {n_bad} cells: remove these cells."
        )
        raise ValueError(msg)
    return coords


def plain_array(raw: Any, where: str) -> NDArray[Any]:
    """Numbers of an array or a table.

    Raises
    ------
    TypeError
        If it is sparse, masked, complex, or of words.
    """
    found = raw.to_numpy() if isinstance(raw, pd.DataFrame) else raw
    if sparse.issparse(found) or isinstance(found, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(found, np.ma.MaskedArray) else "a sparse matrix"
        remedy = (
            ".filled(np.nan), and remove cells without values" if isinstance(found, np.ma.MaskedArray) else ".toarray()"
        )
        msg = f"{where} must be a dense array of numbers, found {kind}: convert it by {remedy}."
        raise TypeError(msg)
    values = np.asarray(found)
    if values.dtype.kind in "biuf":
        return values
    first = next((repr(one) for one in values.ravel()[:1].tolist()), "nothing")
    msg = f"{where} must be a dense array of numbers, found dtype {values.dtype}, such as {first}: convert it by .astype(float)."
    raise TypeError(msg)


def check_key_added(adata: AnnData, key_added: str | None, measured: str = "spatial") -> None:
    """Raise ValueError if a layout would replace measured coordinates."""
    if key_added == measured and measured in adata.obsm:
        msg = (
            f"obsm[{measured!r}] holds coordinates already, which a layout must not replace: choose another key_added, or delete "
            f"them first, by del adata.obsm[{measured!r}]."
        )
        raise ValueError(msg)


def cell_names(adata: AnnData) -> NDArray[np.object_]:
    """Names of all cells, as a file keeps them, ``(n,)``."""
    return np.array([str(name) for name in adata.obs_names], dtype=object)


def cells_digest(adata: AnnData) -> str:
    """A number that stands for the names of all cells, in any order: it tells whether a record is of these cells."""
    hashed = pd.util.hash_array(cell_names(adata), categorize=False)
    return f"{int(hashed.sum(dtype=np.uint64)):016x}"


def embed_record(adata: AnnData) -> Mapping[str, Any]:
    """What :func:`ipar.pp.embed` recorded; empty if it did not, or if something else is stored there."""
    found = adata.uns.get(EMBED_RECORD)
    return found if isinstance(found, Mapping) else {}


def forget_encoder(adata: AnnData, key: str = EMBED) -> None:
    """Remove what was stored beside the embedding ``obsm[key]``: global features, encoder, and weights of genes."""
    adata.obsm.pop(key + GLOBAL_SUFFIX, None)
    adata.uns.pop(EMBED_RECORD, None)
    if GENE_WEIGHT in adata.var:
        del adata.var[GENE_WEIGHT]


def stored_record(adata: AnnData, key: str | None = None) -> Mapping[str, Any]:
    """The record ``uns["ipar"]``, or a dictionary within it; empty if missing.

    Raises
    ------
    TypeError
        If something else is stored there.
    """
    found, where = adata.uns.get(RECORD, {}), f"adata.uns[{RECORD!r}]"
    if key is not None and isinstance(found, Mapping):
        found, where = found.get(key, {}), f"{where}[{key!r}]"
    if not isinstance(found, Mapping):
        msg = f"{where} must be a dictionary that ipar wrote, found {type(found).__name__}: delete it, or store it under another key."
        raise TypeError(msg)
    return found


def record(adata: AnnData) -> dict[str, Any]:
    """The record ``uns["ipar"]``, which is created if missing."""
    # a new dict, since that of a view is its parent's
    adata.uns[RECORD] = dict(stored_record(adata))
    return adata.uns[RECORD]  # type: ignore[no-any-return]
