"""Single cells read like spots, in AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipar._anndata import PSEUDO_SPOTS, get_slides
from ipar._expression import get_expression
from ipar.model._features import pooled_expression

if TYPE_CHECKING:
    from anndata import AnnData

_CELLS_MIN = 2


def pseudo_spots(
    adata: AnnData,
    n_cells: int = 5,
    *,
    library_key: str | None = None,
    layer: str | None = None,
    key_added: str = PSEUDO_SPOTS,
    copy: bool = False,
) -> AnnData | None:
    """Read every single cell together with cells like it, as a spot would: for models that spots have taught.

    A spot's expression is the mean over several cells; a single cell's is far noisier than anything that such a model has
    seen. Averaged with a few cells of like expression, it is placed better. On half of an embryo's single cells, where the
    other half was summed to spots, every score gained from it, more than from matching genes or components to the spots
    (``docs/levers.md``). Where single cells have taught the model, or spots are placed, it costs ranks of distances: leave
    it out there. No coordinate is read.

    Parameters
    ----------
    adata
        Cells to place, log-normalised.
    n_cells
        Cells that are averaged, itself included: 5, about as many as a spot covers; with 15, distances across the tissue
        suffered.
    library_key
        Column of ``obs`` that tells samples apart; all cells are of one, if None.
    layer
        Layer to read; ``X``, if None.
    key_added
        Layer to write.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes:

    ``.layers["pseudo_spots"]``
        The averages, log-normalised, CSR float32, some times as many entries as before.
    ``.uns["pseudo_spots"]``
        The parameters.

    Raises
    ------
    KeyError
        If the column or the layer is missing.
    ValueError
        If ``n_cells`` is below 2, or the expression is not usable.

    Examples
    --------
    >>> ipar.pp.pseudo_spots(cells)  # doctest: +SKIP
    >>> ipar.tl.predict_coords(cells, model, layer="pseudo_spots")  # doctest: +SKIP
    """
    if n_cells < _CELLS_MIN:
        msg = f"n_cells must be at least {_CELLS_MIN}, found {n_cells}: a cell is averaged with others like it."
        raise ValueError(msg)
    if key_added == layer:
        msg = f"key_added is {key_added!r}, the layer that is read: name another, so that it is not lost."
        raise ValueError(msg)
    adata = adata.copy() if copy else adata
    slides = get_slides(adata, library_key)
    adata.layers[key_added] = pooled_expression(get_expression(adata, layer=layer).matrix, slides, n_cells)
    params = (
        {"n_cells": n_cells}
        | ({"library_key": library_key} if library_key else {})
        | ({"layer": layer} if layer else {})
    )
    adata.uns[key_added] = {"params": params}
    return adata if copy else None
