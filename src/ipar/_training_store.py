"""Training slides on disk, cells in the order of a space-filling curve, and even samples of them in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from scipy import sparse

from ipar._chunks import Rows
from ipar._files import replaced_directory, restore
from ipar._options import Checked, Count
from ipar._run import Run
from ipar.geometry.curve import hilbert_order
from ipar.graph.neighbors import cells_by_slide
from ipar.training.slides import even_shares

MARK = "ipar_training_store"  # attribute of the group: how the store is laid out
A_STORE = "a training store"


@dataclass(frozen=True)
class StoreLayout(Checked):
    """How a store is written and read.

    Attributes
    ----------
    most_values
        Values that are held in memory while it is written, 256 MB; cells that are scattered over their file cost a pass
        over their slide for every so many.
    chunk
        Values per chunk on the disk, 512 kB: some runs of cells.
    run, least_runs
        Cells next to each other that are read as one, at most; fewer, where a slide would give fewer runs than this.
    """

    most_values: Count = 1 << 25
    chunk: Count = 1 << 17
    run: Count = 64
    least_runs: Count = 200


@dataclass(frozen=True)
class StoreTables:
    """What a store holds beside expression: tables of cells and genes, coordinates, and the slide of every cell."""

    obs: pd.DataFrame
    var: pd.DataFrame
    coords: NDArray[np.float64]
    labels: pd.Categorical[Any]
    library_key: str | None
    spatial_key: str


def write_store(path: str | Path, rows: Rows, tables: StoreTables, run: Run, layout: StoreLayout) -> None:
    """Write slides one after the other, the cells of each along a Hilbert curve, as an AnnData in a zarr store.

    The store appears as a whole, or not at all.
    """
    slides = [cells[hilbert_order(tables.coords[cells])] for cells in cells_by_slide(tables.labels, rows.shape[0])]
    order, starts = np.concatenate(slides), np.cumsum([0, *map(len, slides)])
    ends = _ends(rows.survey.sizes[order], layout.most_values)
    size = 8 * int(rows.survey.sizes.sum(dtype=np.int64)) + 200 * len(order)
    with replaced_directory(path, is_store, A_STORE, size=size) as staging, warnings.catch_warnings():
        for about in ("zarr v3 autosharding", "Writing zarr v2 data"):  # anndata's own defaults
            warnings.filterwarnings("ignore", about, UserWarning)
        group = zarr.open_group(str(staging), mode="w")
        ad.io.write_elem(group, "/", ad.AnnData(obs=tables.obs.iloc[order], var=tables.var))
        ad.io.write_elem(group["obsm"], tables.spatial_key, tables.coords[order])
        chunks = {"chunks": (layout.chunk,)}
        for start, stop in run.over(list(zip([0, *ends[:-1]], ends, strict=True)), "training store", "block"):
            block = rows.take(order[start:stop])
            if start == 0:
                ad.io.write_elem(group, "X", block, dataset_kwargs=chunks)
            else:
                ad.io.sparse_dataset(group["X"]).append(block)
        names = tables.labels.categories.astype(str).tolist()
        keys = {"library_key": tables.library_key, "spatial_key": tables.spatial_key}
        group.attrs[MARK] = {**keys, "slides": names, "starts": starts.tolist()}


def _ends(sizes: NDArray[np.int32], most_values: int) -> list[int]:
    """Where blocks of rows end that have so many values at most, or a single row."""
    pointers = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    ends = [0]
    while ends[-1] < len(sizes):
        end = int(np.searchsorted(pointers, pointers[ends[-1]] + most_values, side="right")) - 1
        ends.append(max(end, ends[-1] + 1))
    return ends[1:]


def is_store(path: Path) -> bool:
    """Whether a directory is a training store."""
    return MARK in _attributes(path)


def _attributes(path: Path) -> dict[str, Any]:
    try:
        return dict(zarr.open_group(str(path), mode="r").attrs)
    except (OSError, ValueError, KeyError, TypeError):  # zarr's own for what is no group are of these kinds
        return {}


def read_store(path: Path, n_cells: int, random_state: int, layout: StoreLayout) -> ad.AnnData:
    """So many cells at most, in memory: even over slides, and over each slide in short runs along its curve.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no training store, or it is broken.
    """
    restore(path)
    found = _attributes(path).get(MARK)
    if found is None:
        what = "is not a training store" if path.exists() else "does not exist, or was not written to its end"
        msg = f"{path} {what}: write it with ipar.pp.write_training_store."
        raise (ValueError if path.exists() else FileNotFoundError)(msg)
    group = zarr.open_group(str(path), mode="r")
    runs = list(sampled_runs(np.asarray(found["starts"]), n_cells, layout, np.random.default_rng(random_state)))
    try:
        expression = ad.io.sparse_dataset(group["X"])
        parts = [sparse.csr_matrix(expression[start:stop]) for start, stop in runs]
        cells = np.concatenate([np.arange(start, stop) for start, stop in runs])
        obs, var = (ad.io.read_elem(group[name]) for name in ("obs", "var"))
        coords = ad.io.read_elem(group["obsm"][found["spatial_key"]])
        matrix = sparse.csr_matrix(sparse.vstack(parts, format="csr"))
        return ad.AnnData(matrix, obs=obs.iloc[cells], var=var, obsm={found["spatial_key"]: coords[cells]})
    except (OSError, KeyError, IndexError, ValueError, RuntimeError) as error:
        msg = f"{path} is a broken training store ({error}): write it again with ipar.pp.write_training_store."
        raise ValueError(msg) from error


def sampled_runs(
    starts: NDArray[np.int64], n_cells: int, layout: StoreLayout, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Runs of cells, one drawn from each of equal parts of a slide; small slides are taken whole.

    ``starts`` are the first cells of the slides, and the number of all cells.
    """
    for first, size, share in zip(starts[:-1], np.diff(starts), even_shares(np.diff(starts), n_cells), strict=True):
        if share == size:
            yield int(first), int(first + size)
            continue
        n_runs = -(-share // max(min(layout.run, share // layout.least_runs), 1))
        edges, sizes = (np.linspace(0, of, n_runs + 1).astype(np.int64) for of in (size, share))
        for part, own in zip(np.stack([edges[:-1], edges[1:]], axis=1), np.diff(sizes), strict=True):
            start = int(first + part[0] + rng.integers(max(part[1] - part[0] - own, 0) + 1))
            yield start, start + min(int(own), int(part[1] - part[0]))
