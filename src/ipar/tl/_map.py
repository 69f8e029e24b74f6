"""The map of cells onto the places of a reference slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import COORDS, MAP, MAP_CONFIDENCE, MAP_SIMILARITY, Keys, plain_array, record, reference_key
from ipar._docs import shared_docs
from ipar._options import Key
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IPALite, Placement
from ipar.tl._cells import known_ipalite, read_cells
from ipar.tl._reference import joined_places, known_reference

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def map_to_reference(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    reference: str | None = None,
    balanced: bool = False,
    layout_key: str | None = COORDS,
    library_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    key_added: Key = MAP,
    copy: bool = False,
) -> AnnData | None:
    """Map cells onto the places of a training slide.

    Any number of cells is mapped, a single one too. :func:`impute` and :func:`transfer` read the map.

    Parameters
    ----------
    adata
        Cells, log-normalised, with at least half of the model's genes.
    %(model)s
    reference
        Training slide to map onto (default: the only one).
    balanced
        Let every place receive the same number of cells, by entropic optimal transport. This needs POT
        (``pip install ipar[ot]``), and time and memory grow with cells times places.
    layout_key
        Key of ``obsm`` with a layout of the cells, used where it exists: of the places that match a cell, those near its place
        in the layout count most. None maps by the matches alone.
    %(library_key)s
    %(layer)s
    %(gene_key)s
    %(run)s
    key_added
        Key of the map in ``obsm``.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.obsm["ipar_map"]``
        Weights of the m places, sparse float32, ``(n, m)``; rows sum to 1. Columns are the cells of the reference, in the
        order of the AnnData that the model was fitted on.
    ``.obsm["ipar_map_reference"]``
        Mean of the places by these weights, in the reference's frame and units, float64, ``(n, 2)``.
    ``.obs["ipar_map_confidence"]``
        From 0, for a cell that matches places all over the tissue, to 1, for one place, float32.
    ``.obs["ipar_map_similarity"]``
        Cosine similarity of the cell and the place that matches it best, float32.
    ``.uns["ipar"]["map"]``
        Reference, and how sure the frame of each slide is.

    Raises
    ------
    ImportError
        If `balanced` is asked without POT.
    ValueError
        If there is no model, genes do not match, or the model has no such reference.

    Warns
    -----
    FrameWarning
        If it cannot be told how the layout is turned or mirrored on the reference.
    """
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    model, keys = known_ipalite(adata, model, Keys(library_key, layer, gene_key))
    slide = known_reference(model, reference)
    cells = read_cells(adata, model, keys)
    with on_device(model.modules, run.device):
        features = model.features(*cells.arrays)
    assert model.reference is not None
    projected = model.reference.project(features.embedding)
    placement, placed = Placement(prior=0.0, balanced=balanced), {}
    for name, rows in zip(cells.labels.categories, cells_by_slide(cells.labels, adata.n_obs), strict=True):
        layout = _layout(adata, layout_key, rows)
        placed[str(name)] = rows, placement.place(projected[rows], layout, slide, run.seed)
    found = joined_places(placed, adata.n_obs, slide, placement)
    adata.obsm[key_added] = found.weights
    adata.obsm[reference_key(key_added)] = found.coords
    adata.obs[MAP_CONFIDENCE], adata.obs[MAP_SIMILARITY] = found.confidence, found.similarity
    record(adata)["map"] = found.record | {"balanced": balanced, "key_added": key_added}
    return adata if copy else None


def _layout(adata: AnnData, key: str | None, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """The layout of some cells, None where there is none."""
    if key is None or key not in adata.obsm:
        return None
    layout = plain_array(adata.obsm[key], f"obsm[{key!r}]").astype(np.float32)[rows]
    return layout if np.isfinite(layout).all() else None
