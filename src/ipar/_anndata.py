"""The boundary to AnnData: everything below this module works on arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

EMBED = "X_ipar_embed"
EMBED_RECORD = "ipar_embed"
GLOBAL_SUFFIX = "_global"  # of the key of the embedding that it stands beside
CANDIDATES = "ipar_candidates"
COORDS = "X_ipar"
RECYCLES = "X_ipar_recycles"
RECORD = "ipar"
ELLIPSE = "ellipse"
SAMPLES = "X_ipar_samples"
UNCERTAINTY = "ipar_uncertainty"

ELLIPSE_COLUMNS = {
    2: ("offset_x", "offset_y", "sd_major", "sd_minor", "angle"),
    3: (
        *("offset_x", "offset_y", "offset_z", "sd_major", "sd_middle", "sd_minor"),
        *("rotvec_x", "rotvec_y", "rotvec_z"),
    ),
}
"""Columns of a table of ellipses: offset of the centre from the cell's position, standard deviations along the axes, and
the turn that carries the coordinate axes onto them, in radians."""


@dataclass(frozen=True)
class Source:
    """Where an AnnData holds training slides.

    Attributes
    ----------
    library_key
        Column of ``obs`` that tells slides apart.
    spatial_key
        Key of the coordinates in ``obsm``.
    layer
        Layer with log-normalised expression; ``X``, if None.
    mask_var
        Boolean column of ``var`` that selects genes; all genes, if None.
    """

    library_key: str
    spatial_key: str = "spatial"
    layer: str | None = None
    mask_var: str | None = None


MIN_CELLS = 50  # below, a slide has hardly any neighbourhoods to learn from


def uncertainty_key(layout: str) -> str:
    """Column of ``obs`` for how far a cell may be from its place in ``obsm[layout]``: every layout has one of its own."""
    return UNCERTAINTY if layout == COORDS else f"{layout}_uncertainty"


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


def get_coords(adata: AnnData, spatial_key: str = "spatial", *, dims: tuple[int, ...] = (2,)) -> NDArray[np.float32]:
    """Read coordinates, float32 ``(n, d)``, centred to keep the precision of large offsets.

    Parameters
    ----------
    adata
        Annotated data.
    spatial_key
        Key in ``obsm``.
    dims
        Numbers of dimensions d that are understood.

    Raises
    ------
    KeyError
        If there are none.
    ValueError
        If they are of another shape or not finite.
    """
    if spatial_key not in adata.obsm:
        msg = f"adata.obsm has no {spatial_key!r}: training needs tissue coordinates; name their key as spatial_key."
        raise KeyError(msg)
    raw = adata.obsm[spatial_key]
    coords = np.asarray(raw.to_numpy() if isinstance(raw, pd.DataFrame) else raw)
    if coords.ndim != 2 or coords.shape[1] not in dims:
        wanted = " or ".join(f"(n_cells, {d})" for d in dims)
        remedy = "keep the two columns of the plane" if dims == (2,) else "keep the columns of positions"
        msg = f"obsm[{spatial_key!r}] must be of shape {wanted}, found {coords.shape}: {remedy}."
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


def record(adata: AnnData) -> dict[str, Any]:
    """The run record ``uns["ipar"]``, made where it is missing."""
    # a new dict: that of a view is its parent's
    adata.uns[RECORD] = dict(adata.uns.get(RECORD, {}))
    return adata.uns[RECORD]  # type: ignore[no-any-return]
