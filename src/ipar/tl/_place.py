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
from ipar.graph.nearest import Nearest, nearest
from ipar.graph.neighbors import cells_by_slide, joined_graphs
from ipar.model import Features, IPALite, Placement
from ipar.model.ipalite import SlideRows
from ipar.model.outputs import Layout
from ipar.model.placement import OnReference
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

    embedding: NDArray[np.float32]
    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    expected_error: NDArray[np.float32] | None
    candidates: sparse.csr_matrix | None  # distances in the embedding
    method: str
    on_reference: Placed | None
    resemblance: Resembles | None


def place_cells(
    model: IPALite, cells: Cells, run: Run, slide: ReferenceSlide | None, placement: Placement, *, graph: bool = True
) -> Layouts:
    """Features, then layout, expected error and place on a reference slide, if one is given, slide by slide.

    Only with a reference, there may be fewer than four cells: their layout is NaN. Of the slides that are done, the embedding
    alone is held, and the candidates with ``graph``.
    """
    if slide is None:
        check_cells(cells, model.least_cells, "with `reference`, its cells are placed alone")
    cells = cells.known_to(model)  # once for all that follows
    onto = None if slide is None else _Onto(model, slide, placement, run)
    found, resemble = _Placing(model, len(cells.labels), onto, graph), QueryResemblance(model, cells)
    under_way: deque[Callable[[], None]] = deque()
    for begun in ahead(_begun(model, cells, run), min(pool().n_ahead, 1)):
        name, rows, own = begun.name, begun.rows, begun.features
        if begun.sharpen is None:
            found.unplaced(begun)
            continue
        pcs = begun.slide_pcs(model)
        near = nearest(own.embedding, model.n_nearest)  # one search for all that follows
        under_way.append(partial(found.finish, name, rows, begun.sharpen(pcs, near), *found.kept(own, near, pcs)))
        if model.uncertainty is not None:
            found.expected[rows] = model.expected_error(own, run, near)
        found.expected[rows] = resemble.add(name, rows, own, found.expected[rows], near)
        del begun, own, near, pcs  # the next slide takes their place
        while len(under_way) > pool().n_ahead:
            under_way.popleft()()
    while under_way:
        under_way.popleft()()
    return found.layouts([str(name) for name in cells.labels.categories], resemble.found())


@dataclass(frozen=True)
class _Onto:
    """Places cells on a reference slide."""

    model: IPALite
    slide: ReferenceSlide
    placement: Placement
    run: Run

    def place(self, own: Features, layout: Floats | None, pcs: Floats | None, near: Nearest | None) -> OnReference:
        """See :meth:`IPALite.on_reference`."""
        return self.model.on_reference(own, layout, self.slide, self.placement, pcs, self.run, near)


class _Placing:
    """What is known of the cells of all slides, as slides are done."""

    def __init__(self, model: IPALite, n: int, onto: _Onto | None, graph: bool) -> None:
        self.model, self.onto, self.graph = model, onto, graph
        self.coords, self.expected = (np.full(shape, np.nan, dtype=np.float32) for shape in ((n, 2), n))
        self.recycles = np.full((n, 2 * (model.network.net.config.n_recycles + 1)), np.nan, dtype=np.float32)
        self.embedding = np.empty((n, model.encoder.n_output), dtype=np.float32)  # takes memory when it is written
        self.methods: set[str] = set()
        self.graphs: list[tuple[Rows, sparse.csr_matrix]] = []
        self.places: dict[str, tuple[Rows, OnReference]] = {}

    def kept(self, own: Features, near: Nearest, pcs: Floats | None) -> tuple[Features, Nearest | None, Floats | None]:
        """What :meth:`finish` reads: no more of a slide is held until then."""
        if self.onto is not None:
            return own, near, pcs
        return Features(own.embedding, own.global_features[:0].copy()), near if self.graph else None, None

    def finish(
        self,
        name: str,
        rows: Rows,
        layout: Callable[[], Layout],
        own: Features,
        near: Nearest | None,
        pcs: Floats | None,
    ) -> None:
        """Wait for the layout of a slide."""
        found = layout()
        self.coords[rows] = found.coords
        self.recycles[rows] = found.recycles.transpose(1, 0, 2).reshape(len(rows), -1)
        self.methods.add(found.method)
        if self.graph and near is not None:
            self.graphs.append((rows, near.first(self.model.network.n_neighbors).graph()))
        if self.onto is not None:
            self.places[name] = rows, self.onto.place(own, found.coords, pcs, near)
        self.embedding[rows] = own.embedding

    def unplaced(self, begun: _Begun) -> None:
        """A slide with too few cells for a layout."""
        if self.onto is not None:
            self.places[begun.name] = begun.rows, self.onto.place(begun.features, None, None, None)
        self.embedding[begun.rows] = begun.features.embedding

    def layouts(self, names: list[str], resemblance: Resembles | None) -> Layouts:
        """All together; the names give the order of the slides."""
        n, onto, on = len(self.coords), self.onto, None
        if onto is not None:
            on = joined_places({name: self.places[name] for name in names}, n, onto.slide, onto.placement)
        return Layouts(
            self.embedding,
            self.coords,
            self.recycles,
            None if self.model.uncertainty is None else self.expected,
            joined_graphs(self.graphs, n) if self.graph else None,
            "consensus" if "consensus" in self.methods else "direct",
            on,
            resemblance,
        )


@dataclass(frozen=True)
class _Begun:
    """One slide: its cells in :func:`~ipar.model.features.embedding_order`, their features, and its layout, begun.

    There is no layout of too few cells.
    """

    name: str
    rows: Rows
    features: Features
    sharpen: Sharpen | None
    expression: SlideRows
    order: NDArray[np.intp]

    def slide_pcs(self, model: IPALite) -> Floats | None:
        """See :meth:`IPALite.slide_pcs`."""
        found = model.slide_pcs(self.expression)
        return None if found is None else found[self.order]


def _begun(model: IPALite, cells: Cells, run: Run) -> Iterator[_Begun]:
    """Every slide, its layout begun."""
    slide_of, labels = model.matched(cells.matrix, cells.genes), cells.labels
    for name, rows in zip(labels.categories, cells_by_slide(labels, len(labels)), strict=True):
        yield _begin(model, str(name), rows, slide_of(rows), run)


def _begin(model: IPALite, name: str, rows: Rows, slide: SlideRows, run: Run) -> _Begun:
    order, own = model.features_of_slide(slide).in_order()
    sharpen = model.begin(own, run) if len(rows) >= model.least_cells else None
    return _Begun(name, rows[order], own, sharpen, slide, order)


def write_layouts(adata: AnnData, model: IPALite, found: Layouts, cells: Cells, key_added: str) -> None:
    """Write layouts and what is known of them; columns of a layout that is replaced are removed."""
    adata.obsm[key_added] = found.coords
    adata.obsm[f"{key_added}_recycles" if key_added != COORDS else RECYCLES] = found.recycles
    if write_embedding(adata, model, found.embedding) and found.candidates is not None:
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
