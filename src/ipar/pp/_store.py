"""Training slides that do not fit into memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipar._anndata import raw_coords
from ipar._docs import shared_docs
from ipar._files import as_path
from ipar._lazy import with_tables
from ipar._options import Count
from ipar._public import public
from ipar._run import Run
from ipar._seeds import as_seed
from ipar._slots import slot_name
from ipar._sources import expression_rows

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def write_training_store(
    adata: AnnData,
    path: str | Path,
    library_key: str | None = None,
    *,
    spatial_key: str = "spatial",
    layer: str | None = None,
    progress: bool = True,
) -> None:
    """Write slides to disk so that training can read an even part of them.

    The store is an AnnData in zarr. Slides follow one another, and the cells of a slide lie along a Hilbert curve: cells that
    are read together are neighbours in the tissue. :func:`read_training_store` reads from it.

    Parameters
    ----------
    adata
        Slides with coordinates in two or three dimensions. Expression may be in memory, backed, lazy or a Dask array, and is
        never held as a whole.
    path
        Directory to write, such as ``"slides.zarr"``. A training store that is there is replaced at the end.
    %(sections)s
    %(spatial_key)s
    %(layer)s
    progress
        Show a progress bar, unless ``ipar.settings`` hides it.

    Raises
    ------
    ImportError
        If zarr is not installed.
    FileExistsError
        If something other than a training store is at `path`.
    KeyError, OSError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable, or the disk is full.

    Notes
    -----
    Nothing is left after an error, or after Ctrl-C. What a killed process left beside `path` is removed by the next call.

    Cells that are scattered over their file are gathered in several passes over their slide: store the cells of a slide one
    after the other.

    References
    ----------
    Skilling, Programming the Hilbert curve, AIP Conference Proceedings 707 (2004).
    """
    _check_zarr()
    from ipar._training_store import StoreLayout, StoreTables, write_store
    from ipar.pp._embed import training_slides

    known = with_tables(adata)
    labels, coords = training_slides(known, library_key), raw_coords(known, spatial_key, dims=(2, 3))
    rows = expression_rows(known, layer)
    values = rows.survey
    if not np.isfinite([values.smallest, values.largest]).all():
        msg = f"{slot_name('layers', layer)} has NaN or infinite values: remove these cells, or set the values to 0."
        raise ValueError(msg)
    tables = StoreTables(known.obs, known.var, coords, labels, library_key, spatial_key)
    write_store(path, rows, tables, Run(progress=progress), StoreLayout())


@public
@shared_docs
def read_training_store(
    path: str | Path, n_cells: Count = 100_000, *, random_state: int | np.random.Generator | None = 0
) -> AnnData:
    """Read an even part of the slides of a training store into memory.

    Every slide gives as many cells as the others, and small slides all of theirs. The cells of a slide are drawn as short
    runs of neighbours, spread evenly over the tissue.

    Parameters
    ----------
    path
        What :func:`write_training_store` wrote.
    n_cells
        Cells of all slides together (default 100,000). The steps of a fit see no more than some 300,000.
    %(random_state)s

    Returns
    -------
    AnnData
        Expression, coordinates, and the tables of cells and genes, for :func:`ipar.tl.fit_ipalite`.

    Raises
    ------
    ImportError
        If zarr is not installed.
    FileNotFoundError, ValueError
        If there is no training store at `path`, or it is broken.
    """
    _check_zarr()
    from ipar._training_store import StoreLayout, read_store

    return read_store(as_path(path, "name a training store"), n_cells, as_seed(random_state), StoreLayout())


def _check_zarr() -> None:
    if importlib.util.find_spec("zarr") is None:
        msg = 'Training stores need zarr: pip install "ipar[zarr]".'
        raise ImportError(msg)
