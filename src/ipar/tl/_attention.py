"""Attention of single cells on AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import COORDS, Keys, cell_names, plain_array, record
from ipar._docs import shared_docs
from ipar._expression import Cells
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar.model import IPALite
from ipar.model.features import reordered
from ipar.model.network import attention_rows
from ipar.tl._cells import known_ipalite

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def attention(
    adata: AnnData,
    model: IPALite | None = None,
    query: int | str | Sequence[int | str] | None = None,
    *,
    slide: str | None = None,
    library_key: str | None = None,
    spatial_key: str | None = "spatial",
    layer: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Store what chosen cells attend to, for :func:`ipar.pl.attention_focus`.

    Parameters
    ----------
    adata
        Cells with log-normalised expression.
    %(model)s
    query
        Cells of one slide, by name or position (default: the cell nearest to the middle of each quadrant of the slide).
    slide
        Slide of the quadrants (default: the first).
    %(library_key)s
    spatial_key
        Key of the true coordinates in ``obsm``, for quadrants. If missing, ``obsm["X_ipar"]`` is used.
    %(layer)s
    %(random_state)s
    %(device)s
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.uns["ipar"]["attention"]``
        ``query``, names of the q cells; ``cells``, names of the m cells of the pass, ``(q, m)``; ``weights``,
        ``(q, R, H, m)``; ``candidates``, bool ``(q, m)``.

    Raises
    ------
    KeyError
        If a query cell, the slide or, for quadrants, a layout is missing.
    ValueError
        If query cells are of several slides or too many for a pass, or there is no model.

    Notes
    -----
    One pass covers a set of the size used in training: the query cells and random other cells of their slide. Coordinates
    only serve to choose the cell of each quadrant.
    """
    run, adata = Run.of(random_state, device), adata.copy() if copy else adata
    model, keys = known_ipalite(adata, model, Keys(library_key, layer))
    cells = Cells.read(adata, model, keys)
    chosen = _quadrants(adata, cells.labels, slide, spatial_key) if query is None else _positions(adata, query)
    rows = _cells_of_one_slide(cells.labels, chosen, model)
    own = pd.Categorical(np.full(len(rows), "slide"))
    with on_device(model.modules, run.device):
        embedding = model.features(cells.matrix.take(rows), cells.genes, own).embedding
        found = _attention_record(model, embedding, cell_names(adata)[rows], np.searchsorted(rows, chosen), run)
    record(adata)["attention"] = found
    return adata if copy else None


def quadrant_attention(
    model: IPALite,
    embedding: NDArray[np.float32],
    coords: NDArray[np.float32],
    slides: pd.Categorical,
    names: NDArray[np.object_],
    run: Run,
) -> dict[str, NDArray[np.generic]]:
    """Attention of one cell per quadrant of the first slide with a layout, as it is stored; none without layouts."""
    placed = np.flatnonzero(np.isfinite(coords[:, 0]))
    if not len(placed):
        return {}
    cells = np.flatnonzero(slides.codes == slides.codes[placed].min())
    return _attention_record(model, reordered(embedding, cells), names[cells], quadrant_cells(coords[cells]), run)


def quadrant_cells(coords: NDArray[np.float32]) -> NDArray[np.int64]:
    """The cell nearest to the middle of each quadrant of a layout, at most four, each once."""
    centre = np.median(coords, axis=0)
    half = np.abs(coords - centre).mean(axis=0)
    middles = centre + half * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    nearest = np.linalg.norm(coords[None] - middles[:, None], axis=-1).argmin(axis=1)
    return np.unique(nearest)


def _attention_record(
    model: IPALite, embedding: NDArray[np.float32], cells: NDArray[np.object_], query: NDArray[np.int64], run: Run
) -> dict[str, NDArray[np.generic]]:
    """Attention of some cells of a slide, whose names are `cells`: rows of an AnnData change, names stay."""
    found = attention_rows(model.network, embedding, query, run)
    q = len(found.query)
    return {
        "query": cells[found.query],
        "cells": np.broadcast_to(cells[found.cells], (q, len(found.cells))).copy(),
        "weights": found.weights,
        "candidates": found.candidates,
    }


def _quadrants(adata: AnnData, slides: pd.Categorical, slide: str | None, spatial_key: str | None) -> NDArray[np.int64]:
    names = [str(name) for name in slides.categories]
    if slide is not None and str(slide) not in names:
        msg = f"There is no slide {slide!r}, found {names}: name one of these as slide."
        raise KeyError(msg)
    key = spatial_key if spatial_key is not None and spatial_key in adata.obsm else COORDS
    if key not in adata.obsm:
        msg = (
            f"adata.obsm has neither {spatial_key!r} nor {COORDS!r} to take quadrants of: name query cells, or run "
            "ipar.tl.predict_coords first."
        )
        raise KeyError(msg)
    cells = np.flatnonzero(slides.codes == (0 if slide is None else names.index(str(slide))))
    return cells[quadrant_cells(plain_array(adata.obsm[key], f"obsm[{key!r}]").astype(np.float32)[cells, :2])]


def _positions(adata: AnnData, query: int | str | Sequence[int | str]) -> NDArray[np.int64]:
    """Sorted positions of cells, each once."""
    wanted = [query] if isinstance(query, int | np.integer | str) else list(query)
    if not wanted:
        msg = "query is empty: name cells by name or position, or leave it out for one cell per quadrant."
        raise ValueError(msg)
    names = adata.obs_names
    unknown = [one for one in wanted if (one not in names if isinstance(one, str) else not 0 <= one < adata.n_obs)]
    if unknown:
        msg = f"adata has no cells {unknown}: use names in obs_names, or positions from 0 to {adata.n_obs - 1}."
        raise KeyError(msg)
    return np.unique([names.get_loc(one) if isinstance(one, str) else int(one) for one in wanted])


def _cells_of_one_slide(slides: pd.Categorical, chosen: NDArray[np.int64], model: IPALite) -> NDArray[np.int64]:
    codes = np.unique(slides.codes[chosen])
    if len(codes) > 1:
        found = [str(slides.categories[code]) for code in codes]
        msg = f"query cells must be of one slide, found {found}: call ipar.tl.attention for each slide."
        raise ValueError(msg)
    cells, plan = np.flatnonzero(slides.codes == codes[0]), model.network.plan
    if len(cells) > plan.direct_max and len(chosen) > plan.subset_size // 2:
        msg = (
            f"query must have at most {plan.subset_size // 2} cells for a pass of {plan.subset_size}, found {len(chosen)}: "
            "name fewer cells."
        )
        raise ValueError(msg)
    return cells
