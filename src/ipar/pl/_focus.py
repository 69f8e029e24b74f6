"""Attention of single cells, read from the stored record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ipar._anndata import COORDS, warn
from ipar.pl._read import layout, run_record, true_positions

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_REMEDY = "ipar.tl.predict_coords"


@dataclass(frozen=True)
class Focus:
    """One query cell and the m cells that the network read with it."""

    name: str  # of the query
    query: int  # its place among the m cells
    xy: NDArray[np.float64]  # (m, 2)
    known: bool  # xy is the truth, not the prediction
    weights: NDArray[np.float64]  # (R, H, m)
    candidates: NDArray[np.bool_]  # (m,), without the query itself
    neighbors: NDArray[np.intp]  # places of the true neighbours, nearest first; empty if unknown

    @property
    def view(self) -> NDArray[np.float64]:
        """Corners (2, 2) of the box around the query, its candidates and its true neighbours."""
        inside = self.candidates.copy()
        inside[self.query] = True
        inside[self.neighbors] = True
        low, high = self.xy[inside].min(axis=0), self.xy[inside].max(axis=0)
        if not (high > low).all():  # no candidates, or all on a line
            low, high = self.xy.min(axis=0), self.xy.max(axis=0)
        return np.stack([low, high])

    def top(self, recycle: int, head: int, n_top: int) -> NDArray[np.intp]:
        """Places of the `n_top` candidates of highest weight, highest first."""
        weights = np.where(self.candidates, self.weights[recycle, head], 0.0)
        order = np.argsort(-weights, kind="stable")[:n_top]
        return order[weights[order] > 0]


def read_focus(adata: AnnData, spatial_key: str | None, n_neighbors: int) -> dict[int, Focus]:
    """Read all stored queries that are in `adata`, by position; warns of other cells of theirs that are not."""
    record = _checked_record(adata)
    truth = true_positions(adata, spatial_key)
    foci = {}
    for name, names, weights, candidates in zip(
        record["query"], record["cells"], record["weights"], record["candidates"], strict=True
    ):
        if np.count_nonzero(names == name) != 1:
            msg = f"the query {name!r} is not among the cells stored with it: run {_REMEDY} again."
            raise ValueError(msg)
        query, cells = adata.obs_names.get_indexer([name])[0], adata.obs_names.get_indexer(names)
        here = cells >= 0
        if query < 0:
            continue
        if not here.all():
            warn(
                f"{np.count_nonzero(~here)} of {len(here)} cells that the network read with {name!r} are not in adata, and "
                f"not drawn: run {_REMEDY} on this AnnData for the attention among its cells."
            )
        cells, weights, candidates = cells[here], weights[..., here], candidates[here]
        place = int(np.flatnonzero(cells == query)[0])
        known = truth is not None and bool(np.isfinite(truth[cells]).all())
        xy = truth[cells] if truth is not None and known else layout(adata, COORDS, _REMEDY)[cells]
        others = candidates & (np.arange(cells.size) != place)
        distance = np.linalg.norm(xy - xy[place], axis=1)
        distance[place] = np.inf
        nearest = np.argsort(distance, kind="stable")[: min(n_neighbors, len(xy) - 1) if known else 0]
        foci[int(query)] = Focus(name, place, xy, known, weights, others, nearest)
    if not foci:
        msg = (
            f"adata has none of the cells whose attention is stored, {', '.join(record['query'])}: they were removed or "
            f"renamed. Run {_REMEDY} or ipar.tl.attention on this AnnData."
        )
        raise ValueError(msg)
    return foci


def _checked_record(adata: AnnData) -> dict[str, NDArray[Any]]:
    stored = run_record(adata, "attention", _REMEDY)
    types: dict[str, Any] = {"query": np.object_, "cells": np.object_, "weights": np.float64, "candidates": np.bool_}
    if missing := [name for name in types if name not in stored]:
        msg = f"adata.uns['ipar']['attention'] lacks {missing}: run {_REMEDY} again."
        raise KeyError(msg)
    record = {name: np.asarray(stored[name], dtype=dtype) for name, dtype in types.items()}
    if record["cells"].ndim != 2 or record["cells"].size == 0:
        msg = f"no attention was stored, its cells have shape {record['cells'].shape}: run {_REMEDY} again."
        raise ValueError(msg)
    n_queries, n_cells = record["cells"].shape
    weights = (n_queries, *record["weights"].shape[1:3], n_cells)
    for name, shape in {"query": (n_queries,), "weights": weights, "candidates": (n_queries, n_cells)}.items():
        if (found := record[name].shape) != shape:
            msg = f"the stored attention {name!r} has shape {found}, expected {shape}: run {_REMEDY} again."
            raise ValueError(msg)
    if not all(isinstance(name, str) for name in record["query"]):
        msg = f"the attention was stored by an older ipar, which kept rows instead of names of cells: run {_REMEDY} again."
        raise ValueError(msg)
    if not adata.obs_names.is_unique:
        msg = (
            "adata.obs_names must be unique, for cells are looked up by name: call adata.obs_names_make_unique() first."
        )
        raise ValueError(msg)
    return record


def choose_queries(
    adata: AnnData, foci: dict[int, Focus], query: int | str | Iterable[int | str] | None
) -> list[Focus]:
    """Choose stored queries by position in `adata` or by name; all for None."""
    if query is None:
        return list(foci.values())
    wanted = [query] if isinstance(query, int | np.integer | str) else list(query)
    by_name = {focus.name: focus for focus in foci.values()}
    chosen = []
    for one in wanted:
        focus = by_name.get(one) if isinstance(one, str) else foci.get(int(one))
        if focus is None:
            stored = ", ".join(f"{position} ({focus.name})" for position, focus in foci.items())
            msg = f"no attention is stored for the query {one!r}: pass one of {stored}, or store it with ipar.tl.attention."
            raise ValueError(msg)
        chosen.append(focus)
    if not chosen:
        msg = "query is empty: pass stored queries, or None for all."
        raise ValueError(msg)
    return chosen


def choose_numbers(asked: int | Sequence[int] | None, count: int, what: str) -> list[int]:
    """Turn numbers from 1 to count into indices; all for None."""
    numbers = range(1, count + 1) if asked is None else [asked] if isinstance(asked, int | np.integer) else list(asked)
    if wrong := [number for number in numbers if not 1 <= number <= count]:
        msg = f"no {what} {wrong}: {what} are numbered from 1 to {count}."
        raise ValueError(msg)
    if not numbers:
        msg = f"{what} is empty: pass numbers from 1 to {count}, or None for all."
        raise ValueError(msg)
    return [int(number) - 1 for number in numbers]
