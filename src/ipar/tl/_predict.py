"""Prediction of tissue coordinates on AnnData."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ipar._anndata import COORDS, Keys, cell_names, check_key_added, record
from ipar._cluster import on_workers
from ipar._docs import shared_docs
from ipar._lazy import with_tables, write_back
from ipar._options import Count, Key, Share
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar.model import IGA, IPALite, Placement
from ipar.tl._attention import quadrant_attention
from ipar.tl._cells import known_model, read_cells, write_prediction
from ipar.tl._place import layout_settings, place_cells, write_layouts
from ipar.tl._reference import known_reference
from ipar.tl._sample import sample_coords

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def predict_coords(
    adata: AnnData,
    model: IPALite | IGA | None = None,
    *,
    reference: str | None = None,
    transport: Share = Placement.transport,
    library_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    n_rounds: Count | None = None,
    global_weight: Share | None = None,
    flow_weight: Share | None = None,
    sharpen: bool = True,
    graph: bool = True,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    key_added: Key = COORDS,
    copy: bool = False,
) -> AnnData | None:
    """Predict tissue coordinates of cells from their expression.

    The network's layout is averaged with the global map and the flow's expected layout, then sharpened. Coordinates of
    `adata` are not read. Time and memory are linear in the number of cells. Expression is read in chunks of rows, and may be
    larger than memory. With a client of ``dask.distributed``, work is spread over its workers.

    Parameters
    ----------
    adata
        Cells to place, log-normalised, with at least half of the model's genes: a new slide, or dissociated cells. It may be
        backed (``backed="r"``), lazy (:func:`anndata.experimental.read_lazy`), or hold a Dask array. Its file is never written
        to. ``obs`` and ``uns`` of a lazy object are in memory afterwards.
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
    graph
        Write the candidate graph, which takes 2 kB per cell. :func:`ipar.pp.candidates` makes the same graph later.
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
        Embedding, unless that of the model's training is there. One of another model is replaced.
    ``.obsp["ipar_candidates_connectivities"]``, ``.obsp["ipar_candidates_distances"]``, ``.uns["ipar_candidates"]``
        With `graph`: candidate graph as from :func:`ipar.pp.candidates`, if the embedding was written.
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
        Method, settings and seed, the slides and how many cells they had, ``"cells_digest"``, which stands for the names of
        these cells, and whether the model's tissue can be localised. With `reference`, ``"placement"`` tells
        how sure the frame of each slide is.

    Raises
    ------
    ValueError
        If there is no model, genes do not match, values are binary or scaled, the model has no such reference, a weight is not usable, or a slide has
        fewer than four cells. With `reference`, the cells of such a slide are placed, but ``X_ipar`` is NaN there. Also for a
        Dask array of unknown chunks, and for `copy` of a backed object.
    OSError
        If the file of a backed or lazy object is not there any more, or changes meanwhile.
    RuntimeError
        If workers of a Dask cluster have other versions of ipar or PyTorch than this process.

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
    check_key_added(adata, key_added)
    run, returned = Run.of(random_state, device, progress), _copied(adata) if copy else adata
    adata = with_tables(returned)
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
        write_back(adata, returned)
        return returned if copy else None
    model = _with_options(model, n_rounds, global_weight, flow_weight, sharpen)
    placement = Placement(transport=transport)
    slide = None if reference is None else known_reference(model, reference)
    with on_workers(), on_device(model.modules, run.device):
        cells = read_cells(adata, model, keys)
        found = place_cells(model, cells, run, slide, placement, graph=graph)
        attention = quadrant_attention(model, found.embedding, found.coords, cells.labels, cell_names(adata), run)
    write_layouts(adata, model, found, cells, key_added)
    record(adata)["attention"] = attention
    write_prediction(adata, model, cells, key_added, run, layout_settings(model, found))
    write_back(adata, returned)
    return returned if copy else None


def _copied(adata: AnnData) -> AnnData:
    if adata.isbacked:
        msg = (
            "A backed adata cannot be copied without its file: leave copy out, since results are written to the object in memory "
            "and never to its file, or call adata.to_memory() first."
        )
        raise ValueError(msg)
    return adata.copy()


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


def _refuse_for_samples(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = (
            f"The model is an IGA, which has no {' and no '.join(given)}: leave out what it does not have, or use an IPALite "
            "model from ipar.tl.fit_ipalite."
        )
        raise ValueError(msg)
