"""Cells of an AnnData placed slide by slide, and what is written of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import (
    BELONGS,
    COORDS,
    MAP_CONFIDENCE,
    MAP_SIMILARITY,
    RECYCLES,
    reference_key,
    uncertainty_key,
)
from ipar._cluster import ahead, pool
from ipar._expression import Cells, check_cells
from ipar._run import Run
from ipar.graph.neighbors import Nearest, joined_graphs, nearest
from ipar.model import Features, IPALite, Placement
from ipar.model.outputs import Layout
from ipar.model.reference import ReferenceSlide
from ipar.pp._candidates import write_candidates
from ipar.tl._cells import write_embedding
from ipar.tl._reference import Placed, joined_places
from ipar.tl._resemblance import QueryResemblance, Resembles

if TYPE_CHECKING:
    from anndata import AnnData


Rows: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Sharpen: TypeAlias = Callable[[Floats | None, Nearest | None], Callable[[], Layout]]
"""See :meth:`IPALite.begin`."""


@dataclass(frozen=True)
class Layouts:
    """Cells of all slides, placed."""

    features: Features
    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    expected_error: NDArray[np.float32] | None
    candidates: sparse.csr_matrix  # distances in the embedding
    method: str
    on_reference: Placed | None
    resemblance: Resembles | None


def place_cells(model: IPALite, cells: Cells, run: Run, slide: ReferenceSlide | None, placement: Placement) -> Layouts:
    """Features, then layout, expected error and place on a reference slide, if one is given, slide by slide.

    Only with a reference, there may be fewer than four cells: their layout is NaN.
    """
    if slide is None:
        check_cells(cells, model.least_cells, "with `reference`, its cells are placed alone")
    cells = cells.known_to(model)  # once for all that follows
    features = model.features(*cells.arrays)
    slides = ahead(_begun(model, features, cells, run), min(pool().n_ahead, 1))
    resemble = QueryResemblance(model, cells)
    slide_pcs = None
    if model.sharpening is not None and model.sharpening.slide_pc_share:
        slide_pcs = model.encoder.slide_pcs(*cells.arrays)
    n = len(cells.labels)
    coords, expected = np.full((n, 2), np.nan, dtype=np.float32), np.full(n, np.nan, dtype=np.float32)
    recycles = np.full((n, 2 * (model.network.net.config.n_recycles + 1)), np.nan, dtype=np.float32)
    methods, graphs, places = [], [], {}

    def finish(
        name: str, rows: Rows, own: Features, near: Nearest, pcs: Floats | None, layout: Callable[[], Layout]
    ) -> None:
        found = layout()
        coords[rows] = found.coords
        recycles[rows] = found.recycles.transpose(1, 0, 2).reshape(len(rows), -1)
        methods.append(found.method)
        if slide is not None:
            places[name] = rows, model.on_reference(own, found.coords, slide, placement, pcs, run, near)

    under_way: deque[Callable[[], None]] = deque()
    for name, rows, own, sharpen in slides:
        if sharpen is None:
            if slide is not None:
                places[name] = rows, model.on_reference(own, None, slide, placement, run=run)
            continue
        near = nearest(own.embedding, model.n_nearest)  # one search for all that follows
        graphs.append((rows, near.first(model.network.n_neighbors).graph()))
        pcs = None if slide_pcs is None else slide_pcs[rows]
        under_way.append(partial(finish, name, rows, own, near, pcs, sharpen(pcs, near)))
        if model.uncertainty is not None:
            expected[rows] = model.expected_error(own, run, near)
        expected[rows] = resemble.add(name, rows, own, expected[rows], near)
        while len(under_way) > pool().n_ahead:
            under_way.popleft()()
    while under_way:
        under_way.popleft()()
    places = {str(name): places[str(name)] for name in cells.labels.categories if str(name) in places}
    method = "consensus" if "consensus" in methods else "direct"
    error = None if model.uncertainty is None else expected
    on = None if slide is None else joined_places(places, n, slide, placement)
    return Layouts(features, coords, recycles, error, joined_graphs(graphs, n), method, on, resemble.found())


def _begun(
    model: IPALite, features: Features, cells: Cells, run: Run
) -> Iterator[tuple[str, Rows, Features, Sharpen | None]]:
    """Name, cells and features of every slide, and its layout, begun; None where there are too few cells."""
    for name, rows in features.of_slides(cells.labels):
        own = features.rows(rows)
        yield name, rows, own, model.begin(own, run) if len(rows) >= model.least_cells else None


def write_layouts(adata: AnnData, model: IPALite, found: Layouts, cells: Cells, key_added: str) -> None:
    """Write layouts and what is known of them; columns of a layout that is replaced are removed."""
    adata.obsm[key_added] = found.coords
    adata.obsm[f"{key_added}_recycles" if key_added != COORDS else RECYCLES] = found.recycles
    if write_embedding(adata, model, found.features.embedding):
        params: dict[str, Any] = {"library_key": cells.library_key} if cells.library_key else {}
        write_candidates(adata, found.candidates, n_neighbors=model.network.n_neighbors, **params)
    on, resembles, error = found.on_reference, found.resemblance, found.expected_error
    adata.obsm.pop(reference_key(key_added), None)  # of coordinates that were just replaced
    if on is not None:
        adata.obsm[reference_key(key_added)] = on.coords
    columns = {
        uncertainty_key(key_added): error,
        BELONGS: None if resembles is None else resembles.belongs,
        reference_key(uncertainty_key(key_added)): None if on is None or error is None else error * on.radius,
        MAP_CONFIDENCE: None if on is None else on.confidence,
        MAP_SIMILARITY: None if on is None else on.similarity,
    }
    for name, values in columns.items():
        if name in adata.obs:
            del adata.obs[name]
        if values is not None:
            adata.obs[name] = values


def layout_settings(model: IPALite, found: Layouts) -> dict[str, Any]:
    """What a prediction was made with, for the record."""
    plan = model.network.plan
    settings: dict[str, Any] = {
        "method": found.method,
        "global_weight": model.blend.global_map,
        "flow_weight": model.blend.flow,
        "n_rounds": plan.n_rounds,
        "subset_size": plan.subset_size,
    }
    if found.on_reference is not None:
        settings["placement"] = found.on_reference.record
    if found.resemblance is not None:
        settings["resembles_training"] = found.resemblance.record
    return settings
