"""Prediction of tissue coordinates on AnnData."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import (
    BELONGS,
    COORDS,
    EMBED,
    EMBED_RECORD,
    MAP_CONFIDENCE,
    MAP_SIMILARITY,
    RECYCLES,
    Keys,
    record,
    reference_key,
    uncertainty_key,
)
from ipar._docs import shared_docs
from ipar._expression import Cells
from ipar._run import Run, on_device
from ipar.graph.neighbors import cells_by_slide, joined_graphs, nearest
from ipar.model import IGA, Features, IPALite, Placement
from ipar.model.ipalite import MIN_CELLS
from ipar.model.reference import ReferenceSlide
from ipar.pp._candidates import write_candidates
from ipar.tl._attention import quadrant_attention
from ipar.tl._cells import known_model, read_cells, write_prediction
from ipar.tl._reference import Placed, joined_places, known_reference
from ipar.tl._resemblance import QueryResemblance, Resembles
from ipar.tl._sample import sample_coords

if TYPE_CHECKING:
    from anndata import AnnData


@shared_docs
def predict_coords(
    adata: AnnData,
    model: IPALite | IGA | None = None,
    *,
    reference: str | None = None,
    transport: float = Placement.transport,
    library_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    n_rounds: int | None = None,
    global_weight: float | None = None,
    flow_weight: float | None = None,
    sharpen: bool = True,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    key_added: str = COORDS,
    copy: bool = False,
) -> AnnData | None:
    """Predict tissue coordinates of cells from their expression.

    The network's layout is averaged with the global map and the flow's expected layout, then sharpened. Coordinates of
    `adata` are not read. Time and memory are linear in the number of cells.

    Parameters
    ----------
    adata
        Cells to place, log-normalised, with at least half of the model's genes: a new slide, or dissociated cells.
    model
        Fitted model (default: the model fitted on this AnnData). With an :class:`~ipar.IGA`, this calls
        :func:`sample_coords`.
    reference
        Training slide in whose frame and units the cells are also placed (default: none). A model of one section calls it
        ``"section"``.
    transport
        How far cells are moved onto places where the reference has cells: from 0, not at all, to 1, every cell on a place.
    %(library_key)s
    %(layer)s
    %(gene_key)s
    n_rounds
        Rounds of the consensus for large slides (default: 2). More rounds smooth the network's own layout.
    global_weight
        Share of the global map beside the network's layout, from 0 to 1 (default: the model's).
    flow_weight
        Share of the flow's expected layout in the result, from 0 to 1 (default: the model's).
    sharpen
        Draw together cells with similar expression, see :class:`ipar.model.Sharpening`.
    %(run)s
    key_added
        Key of the coordinates in ``obsm``.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.obsm["X_ipar"]``
        Coordinates, float32, ``(n, 2)``. Each slide is centred and has an RMS radius of 1.
    ``.obsm["X_ipar_recycles"]``
        The network's first guess and its layout after every recycle, aligned with ``X_ipar``, ``(n, 2(R + 1))``.
    ``.obsm["X_ipar_reference"]``
        With `reference`: coordinates in its frame and units, float64, ``(n, 2)``.
    ``.obs["ipar_map_confidence"]``
        With `reference`: how concentrated the places are that match a cell, from 0 to 1, float32.
    ``.obs["ipar_map_similarity"]``
        With `reference`: cosine similarity of a cell and the place that matches it best, float32. It is low for cells that
        belong in no place of the reference.
    ``.obsm["X_ipar_embed"]``
        Embedding, if missing.
    ``.obsp["ipar_candidates_connectivities"]``, ``.obsp["ipar_candidates_distances"]``, ``.uns["ipar_candidates"]``
        Candidate graph as from :func:`ipar.pp.candidates`, if the embedding was missing.
    ``.uns["ipar"]["prediction"]["resembles_training"]``
        Per slide, whether it resembles the training slides, with its distance, the limit, and a sentence.
    ``.obs["ipar_belongs"]``
        Share of left-out training cells that look less like the training slides than the cell does: near 0 for cells that
        do not belong, about uniform for cells that do. NaN for cells without counts.
    ``.obs["ipar_uncertainty"]``
        Expected distance of the cell from its true place, in RMS radii of the tissue, float32. It ranks cells, and is no
        upper limit. The column is ``<key_added>_uncertainty`` for another key.
    ``.obs["ipar_uncertainty_reference"]``
        With `reference`: the same in units of the reference, by the scale that carries the layout there, float64. An error of
        the frame comes on top.
    ``.uns["ipar"]["attention"]``
        Attention of one cell per quadrant of the first slide, for :func:`ipar.pl.attention_focus`.
    ``.uns["ipar"]["prediction"]``
        Method, settings and seed, and whether the model's tissue can be localised. With `reference`, ``"placement"`` tells
        how sure the frame of each slide is.

    Raises
    ------
    ValueError
        If there is no model, genes do not match, values are binary or scaled, the model has no such reference, a weight is not usable, or a slide has
        fewer than four cells. With `reference`, the cells of such a slide are placed, but ``X_ipar`` is NaN there.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised, or that looks mirrored or repeated.
    ResemblanceWarning
        If cells of a slide do not resemble the training slides: their coordinates may mean nothing.
    FrameWarning
        If it cannot be told how a slide is turned or mirrored on the reference.

    Notes
    -----
    On a reference, a cell goes to the mean of the places that match it in the embedding, those nearest to where its layout
    puts it first (:class:`ipar.model.Placement`).

    Slides no larger than the largest training set are laid out directly. For larger slides, random subsets that share
    anchor cells are laid out, aligned on the anchors, and averaged.

    Slides whose values are on another scale than the model's, such as raw counts or counts per million, are converted on a
    copy, with a warning.

    Without reference, a layout has no natural rotation, reflection or scale. Use :func:`ipar.metrics.procrustes_align` to
    align it with known coordinates for display.

    Without `model`, `library_key`, `layer` and `gene_key` default to those of the fit.
    """
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    model, keys = known_model(adata, model, Keys(library_key, layer, gene_key))
    if isinstance(model, IGA):
        given = {
            "reference": reference,
            "n_rounds": n_rounds,
            "global_weight": global_weight,
            "flow_weight": flow_weight,
        }
        _refuse_for_samples(given)
        options: dict[str, Any] = {"sharpen": sharpen, "key_added": key_added, "device": device, "progress": progress}
        sample_coords(adata, model, random_state=run.seed, **asdict(keys), **options)
        return adata if copy else None
    model = _with_options(model, n_rounds, global_weight, flow_weight, sharpen)
    placement = Placement(transport=transport)
    slide = None if reference is None else known_reference(model, reference)
    cells = read_cells(adata, model, keys)
    with on_device(model.modules, run.device):
        found = _place(model, cells, run, slide, placement)
        attention = quadrant_attention(model, found.features.embedding, found.coords, cells.labels, run)
    _write(adata, model, found, cells, key_added)
    record(adata)["attention"] = attention
    write_prediction(adata, model, cells, key_added, run, _settings(model, found))
    return adata if copy else None


@dataclass(frozen=True)
class _Placed:
    """Cells of all slides, placed."""

    features: Features
    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    expected_error: NDArray[np.float32] | None
    candidates: sparse.csr_matrix  # distances in the embedding
    method: str
    on_reference: Placed | None
    resemblance: Resembles | None


def _with_options(
    model: IPALite, n_rounds: int | None, global_weight: float | None, flow_weight: float | None, sharpen: bool
) -> IPALite:
    """The model with other settings than its own."""
    if flow_weight and model.flow is None:
        msg = (
            f"flow_weight needs a model with a flow, found {flow_weight} for one fitted with flow=False: leave it out."
        )
        raise ValueError(msg)
    return replace(
        model,
        network=model.network.with_rounds(n_rounds),
        blend=model.blend.with_shares(global_weight, flow_weight),
        sharpening=model.sharpening if sharpen else None,
    )


def _place(model: IPALite, cells: Cells, run: Run, slide: ReferenceSlide | None, placement: Placement) -> _Placed:
    """Features, then layout, expected error and place on a reference slide, if one is given, slide by slide.

    Only with a reference, there may be fewer than four cells: their layout is NaN.
    """
    features = model.features(*cells.arrays)
    resemble = QueryResemblance(model, cells)
    slide_pcs = None
    if model.sharpening is not None and model.sharpening.slide_pc_share:
        slide_pcs = model.encoder.slide_pcs(*cells.arrays)
    n = len(cells.labels)
    coords, expected = np.full((n, 2), np.nan, dtype=np.float32), np.full(n, np.nan, dtype=np.float32)
    recycles = np.full((n, 2 * (model.network.net.config.n_recycles + 1)), np.nan, dtype=np.float32)
    methods, graphs, places = [], [], {}
    for name, rows in zip(cells.labels.categories, cells_by_slide(cells.labels, n), strict=True):
        own = features.rows(rows)
        if slide is not None and len(rows) < MIN_CELLS:
            places[str(name)] = rows, model.on_reference(own, None, slide, placement, run=run)
            continue
        near = nearest(own.embedding, model.n_nearest)  # one search for all that follows
        graphs.append((rows, near.first(model.network.n_neighbors).graph()))
        pcs = None if slide_pcs is None else slide_pcs[rows]
        layout = model.layout(own, pcs, run, near)
        coords[rows] = layout.coords
        recycles[rows] = layout.recycles.transpose(1, 0, 2).reshape(len(rows), -1)
        methods.append(layout.method)
        if model.uncertainty is not None:
            expected[rows] = model.expected_error(own, run, near)
        expected[rows] = resemble.add(str(name), rows, own, expected[rows], near)
        if slide is not None:
            places[str(name)] = rows, model.on_reference(own, layout.coords, slide, placement, pcs, run, near)
    method = "consensus" if "consensus" in methods else "direct"
    error = None if model.uncertainty is None else expected
    on = None if slide is None else joined_places(places, n, slide, placement)
    return _Placed(features, coords, recycles, error, joined_graphs(graphs, n), method, on, resemble.found())


def _write(adata: AnnData, model: IPALite, found: _Placed, cells: Cells, key_added: str) -> None:
    adata.obsm[key_added] = found.coords
    adata.obsm[f"{key_added}_recycles" if key_added != COORDS else RECYCLES] = found.recycles
    if EMBED not in adata.obsm or EMBED_RECORD not in adata.uns:
        adata.obsm[EMBED] = found.features.embedding
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


def _settings(model: IPALite, found: _Placed) -> dict[str, Any]:
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


def _refuse_for_samples(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = (
            f"The model is an IGA, which has no {' and no '.join(given)}: leave out what it does not have, or use an IPALite "
            "model from ipar.tl.fit_ipalite."
        )
        raise ValueError(msg)
