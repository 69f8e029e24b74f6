"""ipar as it is documented for dissociated cells, with its adapter and without."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anndata as ad
import numpy as np

import ipar
from benchmarks.dissociated.scores import Floats, Placed
from benchmarks.dissociated.tasks import Dissociated
from benchmarks.methods.arrays import dense

SECTION = "section"
"""Name of the only slide of a model that was fitted without a key of slides."""


def place_with_ipar(given: Dissociated, seed: int, *, adapt: bool = True) -> Placed:
    """Places in the section's frame; the confidence is the similarity of a cell to the place that matches it best."""
    cells = given.cells.copy()
    model = _fitted(given.section.copy(), cells, seed, adapt=adapt)
    ipar.tl.predict_coords(cells, model, reference=SECTION, random_state=seed, progress=False)
    return Placed(np.asarray(cells.obsm["X_ipar_reference"]), cells.obs["ipar_map_similarity"].to_numpy(dtype=float))


def impute_with_ipar(
    section: ad.AnnData, cells: ad.AnnData, genes: Sequence[str], seed: int, *, adapt: bool = True
) -> Floats:
    """Expression of genes that the section never measured, ``(n_spots, n_genes)``."""
    known, given = section.copy(), cells.copy()  # neither run finds the mapping of another
    model = _fitted(known, given, seed, adapt=adapt)
    return dense(ipar.tl.impute(known, given, model, genes=list(genes))[:, list(genes)])


def _fitted(section: ad.AnnData, cells: ad.AnnData, seed: int, *, adapt: bool) -> Any:
    """A model of the section, also where ipar refuses it, brought to the cells or not."""
    tools: Any = ipar.tl
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)  # scores are the figures here
        model = tools.fit_ipalite(section, library_key=None, force=True, random_state=seed, progress=False)
    return tools.adapt(model, cells) if adapt else model


PLACE: dict[str, Callable[[Dissociated, int], Placed]] = {
    "ipar": place_with_ipar,
    "ipar_no_adapter": partial(place_with_ipar, adapt=False),
}
IMPUTE: dict[str, Callable[[ad.AnnData, ad.AnnData, Sequence[str], int], Floats]] = {
    "ipar": impute_with_ipar,
    "ipar_no_adapter": partial(impute_with_ipar, adapt=False),
}
