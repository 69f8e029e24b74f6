"""Attention of single cells on AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import COORDS, EMBED_RECORD, get_slides, record
from ipar._expression import get_expression
from ipar._run import Run, on_device
from ipar.model import IPALite
from ipar.tl._attention_record import attention_record, quadrant_cells
from ipar.tl._stored import stored_ipalite

if TYPE_CHECKING:
    from anndata import AnnData


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
    device: str = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Store what chosen cells attend to, for :func:`ipar.pl.attention_focus`.

    One pass over a set of the size trained on that holds the cells; the other cells of it are random. Coordinates play no
    part but in the choice of one cell per quadrant.

    Parameters
    ----------
    adata
        Cells with log-normalised expression.
    model
        A fitted model; the one that was fitted on this very AnnData, if None.
    query
        Cells of one slide, by name or by position in ``adata``. None: the cell nearest to the middle of each quadrant
        of the slide, of the true layout where it is known and of ``obsm["X_ipar"]`` where it is not.
    slide
        Slide of which quadrants are taken; the first, if None.
    library_key
        Column of ``obs`` that tells slides apart; all cells are one slide, if None.
    spatial_key
        Key of true coordinates in ``obsm``, for quadrants.
    layer
        Layer with log-normalised expression; ``X``, if None.
    random_state
        Seed of the other cells of the set. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes

    ``.uns["ipar"]["attention"]``
        ``query``, positions of the q cells; ``cells``, positions of the m cells of the pass, ``(q, m)``; ``weights``,
        ``(q, R, H, m)``; ``candidates``, bool ``(q, m)``.

    Raises
    ------
    KeyError
        If a query, the slide column or, for quadrants, a layout is missing.
    ValueError
        If queries are of several slides, too many for a pass, or no model is given or stored.
    """
    run, adata = Run.of(random_state, device), adata.copy() if copy else adata
    if model is None:
        model, library_key = stored_ipalite(adata, library_key)
        layer = layer or adata.uns.get(EMBED_RECORD, {}).get("layer")
    expression = get_expression(adata, layer=layer)
    slides = get_slides(adata, library_key)
    chosen = _quadrants(adata, slides, slide, spatial_key) if query is None else _positions(adata, query)
    cells = _cells_of_one_slide(slides, chosen, model)
    own = pd.Categorical(np.full(len(cells), "slide"))
    with on_device(model.modules, run.device):
        h = model.encoder.transform(expression.matrix[cells], expression.genes, own)
        found = attention_record(model, h, cells, np.searchsorted(cells, chosen), run)
    record(adata)["attention"] = found
    return adata if copy else None


def _quadrants(adata: AnnData, slides: pd.Categorical, slide: str | None, spatial_key: str | None) -> NDArray[np.int64]:
    names = [str(name) for name in slides.categories]
    if slide is not None and str(slide) not in names:
        msg = f"There is no slide {slide!r}: pass one of {names} as slide."
        raise KeyError(msg)
    key = spatial_key if spatial_key is not None and spatial_key in adata.obsm else COORDS
    if key not in adata.obsm:
        msg = f"adata.obsm has neither {spatial_key!r} nor {COORDS!r} to take quadrants of: give query cells, or run ipar.tl.predict_coords first."
        raise KeyError(msg)
    cells = np.flatnonzero(slides.codes == (0 if slide is None else names.index(str(slide))))
    return cells[quadrant_cells(np.asarray(adata.obsm[key], dtype=np.float32)[cells, :2])]


def _positions(adata: AnnData, query: int | str | Sequence[int | str]) -> NDArray[np.int64]:
    """Sorted positions of cells, each once."""
    wanted = [query] if isinstance(query, int | np.integer | str) else list(query)
    if not wanted:
        msg = "query is empty: give cells by name or position, or None for one per quadrant."
        raise ValueError(msg)
    names = adata.obs_names
    unknown = [one for one in wanted if (one not in names if isinstance(one, str) else not 0 <= one < adata.n_obs)]
    if unknown:
        msg = f"adata has no cells {unknown}: give names out of obs_names, or positions from 0 to {adata.n_obs - 1}."
        raise KeyError(msg)
    return np.unique([names.get_loc(one) if isinstance(one, str) else int(one) for one in wanted])


def _cells_of_one_slide(slides: pd.Categorical, chosen: NDArray[np.int64], model: IPALite) -> NDArray[np.int64]:
    codes = np.unique(slides.codes[chosen])
    if len(codes) > 1:
        found = [str(slides.categories[code]) for code in codes]
        msg = f"query cells must be of one slide, found {found}: cells of different slides never attend to each other."
        raise ValueError(msg)
    cells = np.flatnonzero(slides.codes == codes[0])
    if len(cells) > model.network.plan.direct_max and len(chosen) > model.network.plan.subset_size // 2:
        msg = f"query has {len(chosen)} cells, at most {model.network.plan.subset_size // 2} fit a pass of {model.network.plan.subset_size}: give fewer."
        raise ValueError(msg)
    return cells
