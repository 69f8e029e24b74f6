"""Prediction of tissue coordinates on AnnData."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import COORDS, EMBED, EMBED_RECORD, RECYCLES, get_slides, record, uncertainty_key
from ipar._expression import Expression, get_expression, warn_empty_cells
from ipar._run import Run, on_device
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IGA, Features, IPALite
from ipar.pp._candidates import write_candidates
from ipar.tl._attention_record import quadrant_attention
from ipar.tl._sample import sample_coords
from ipar.tl._stored import stored_model, warn_unlocalisable

if TYPE_CHECKING:
    from anndata import AnnData


def predict_coords(
    adata: AnnData,
    model: IPALite | IGA | None = None,
    *,
    library_key: str | None = None,
    layer: str | None = None,
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
    """Give cells tissue coordinates from their expression.

    Cells are embedded and laid out by the network: all at once while there are no more than in the largest training set, and
    beyond that by consensus. Random subsets that share anchor cells are then laid out, aligned on the anchors and averaged.
    The network's layout is averaged with the global map and the flow's expected layout, and sharpened. Time and memory are
    linear in the number of cells.

    A layout has no natural rotation, reflection or scale; :func:`ipar.metrics.procrustes_align` brings it onto known
    coordinates for display. No coordinates of ``adata`` are read.

    Parameters
    ----------
    adata
        Cells to place: an unseen slide or dissociated cells, log-normalised, with at least half of the model's genes.
    model
        A fitted model; the one that was fitted on this very AnnData, if None. With an :class:`~ipar.IGA` this is
        :func:`sample_coords` with its defaults and `sharpen`, and writes what that writes.
    library_key
        Column of ``obs`` that tells slides apart, which are placed one by one; all cells are one slide, if None. For
        the AnnData fitted on it is the column it was fitted with.
    layer
        Layer with log-normalised expression; ``X``, if None. For the AnnData fitted on it is the layer it was fitted on.
    n_rounds
        Consensus rounds (default 8, and 4 beyond 20,000 cells). More smooth the layout a little.
    global_weight
        Share of the global map beside the network's layout, between 0 and 1; the model's, if None. With 0, and a
        `flow_weight` of 0, the network alone decides.
    flow_weight
        Share of the flow's expected layout in the result, between 0 and 1; the model's, if None.
    sharpen
        Draw cells together that are alike in the embedding and in the slide PCs, as far as the held-out training slide
        allowed it. See :class:`ipar.model.Sharpening`.
    random_state
        Seed of the consensus subsets and of the flow's draws. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show progress bars.
    key_added
        Key of the coordinates in ``obsm``.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes

    ``.obsm["X_ipar"]``
        Coordinates, float32, ``(n, 2)``, each slide centred with an RMS radius of 1.
    ``.obsm["X_ipar_recycles"]``
        The network's own first guess and its layout after every recycle, before blend and sharpening, turned onto
        ``X_ipar``, ``(n, 2(R + 1))``.
    ``.obsm["X_ipar_embed"]``
        The embedding, where it is missing; the one of a fit on this AnnData stays.
    ``.obsp["ipar_candidates_connectivities"]``, ``.obsp["ipar_candidates_distances"]``, ``.uns["ipar_candidates"]``
        The candidate graph of every slide, as :func:`ipar.pp.candidates` writes it, where the embedding was missing. A
        direct layout attends to these candidates; subsets of a consensus find their own among their cells.
    ``.obs["ipar_uncertainty"]``
        Expected distance of the cell from its true place, after alignment, in RMS radii of the tissue, float32. It ranks
        the cells of a slide; it is no bound. ``<key_added>_uncertainty`` for another key.
    ``.uns["ipar"]["attention"]``
        Attention rows of one cell per quadrant of the (first) slide, for :func:`ipar.pl.attention_focus`.
    ``.uns["ipar"]["prediction"]``
        Method, rounds, subset size, weights, seed, and the model's localisability.

    Raises
    ------
    ValueError
        If no model is given or stored, genes do not match, a slide has fewer than four cells, a weight is not a share, or
        `flow_weight` is given for a model without a flow.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised, or that looks mirrored or repeated.
    """
    run = Run.of(random_state, device, progress)
    adata = adata.copy() if copy else adata
    if model is None:
        model, library_key = stored_model(adata, library_key)
        layer = layer or adata.uns.get(EMBED_RECORD, {}).get("layer")
    if isinstance(model, IGA):
        _refuse_for_samples(n_rounds=n_rounds, global_weight=global_weight, flow_weight=flow_weight)
        keys: dict[str, Any] = {"library_key": library_key, "layer": layer, "sharpen": sharpen, "key_added": key_added}
        sample_coords(adata, model, random_state=run.seed, device=device, progress=progress, **keys)
        return adata if copy else None
    if flow_weight and model.flow is None:
        msg = "The model has no flow, it was fitted with flow=False: fit it with a flow, or leave flow_weight out."
        raise ValueError(msg)
    model = replace(
        model,
        network=model.network.with_rounds(n_rounds),
        blend=model.blend.with_shares(global_weight, flow_weight),
        sharpening=model.sharpening if sharpen else None,
    )
    expression = get_expression(adata, layer=layer)
    warn_empty_cells(expression)
    labels = get_slides(adata, library_key)
    warn_unlocalisable(model.record)
    with on_device(model.modules, run.device):
        found = _place(model, expression, labels, run)
        attention = quadrant_attention(model, found.features.embedding, found.coords, labels, run)
    column: dict[str, Any] = {"library_key": library_key} if library_key else {}
    _write(adata, model, found, labels, key_added, column)
    record(adata)["attention"] = attention
    record(adata)["prediction"] = _settings(model, found, labels, run) | {"key_added": key_added, **column}
    return adata if copy else None


@dataclass(frozen=True)
class _Placed:
    """Cells of all slides, placed."""

    features: Features
    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    expected_error: NDArray[np.float32] | None
    method: str


def _place(model: IPALite, expression: Expression, labels: pd.Categorical, run: Run) -> _Placed:
    """Features, then slide by slide the layout and the expected error."""
    features = model.encoder.features(expression.matrix, expression.genes, labels)
    slide_pcs = None
    if model.sharpening is not None and model.sharpening.own:
        slide_pcs = model.encoder.slide_pcs(expression.matrix, expression.genes, labels)
    n = len(labels)
    coords, expected = np.empty((n, 2), dtype=np.float32), np.empty(n, dtype=np.float32)
    recycles = np.empty((n, 2 * (model.network.net.config.n_recycles + 1)), dtype=np.float32)
    methods = []
    for cells in cells_by_slide(labels, len(labels)):
        own = features.rows(cells)
        layout = model.layout(own, None if slide_pcs is None else slide_pcs[cells], run)
        coords[cells] = layout.coords
        recycles[cells] = layout.recycles.transpose(1, 0, 2).reshape(len(cells), -1)
        methods.append(layout.method)
        if model.uncertainty is not None:
            expected[cells] = model.expected_error(own, run)
    method = "consensus" if "consensus" in methods else "direct"
    return _Placed(features, coords, recycles, None if model.uncertainty is None else expected, method)


def _write(
    adata: AnnData, model: IPALite, found: _Placed, labels: pd.Categorical, key_added: str, params: dict[str, Any]
) -> None:
    adata.obsm[key_added] = found.coords
    adata.obsm[f"{key_added}_recycles" if key_added != COORDS else RECYCLES] = found.recycles
    if EMBED not in adata.obsm or EMBED_RECORD not in adata.uns:
        adata.obsm[EMBED] = found.features.embedding
        write_candidates(adata, found.features.embedding, labels, model.network.n_neighbors, **params)
    column = uncertainty_key(key_added)
    if column in adata.obs:
        del adata.obs[column]  # it speaks of coordinates that were just replaced
    if found.expected_error is not None:
        adata.obs[column] = found.expected_error


def _settings(model: IPALite, found: _Placed, labels: pd.Categorical, run: Run) -> dict[str, Any]:
    """What the layouts were made with."""
    plan = model.network.plan
    return {
        "method": found.method,
        "global_weight": model.blend.global_map,
        "flow_weight": model.blend.flow,
        "n_rounds": plan.rounds_for(int(np.bincount(labels.codes).max())),
        "subset_size": plan.subset_size,
        "sharpened": model.sharpening is not None,
        "n_cells": len(labels),
        "random_state": run.seed,
        "localisable": bool(model.record.get("localisability", {}).get("localisable", True)),
    }


def _refuse_for_samples(**options: float | None) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = f"{' and '.join(given)} belong to IPALite models; for an IGA model leave them out, see ipar.tl.sample_coords."
        raise ValueError(msg)
