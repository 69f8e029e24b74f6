"""Prediction of tissue coordinates on AnnData."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import COORDS, EMBED, EMBED_RECORD, RECYCLES, get_slides, record, uncertainty_key
from ipar._device import get_device
from ipar._expression import get_expression, warn_empty_cells
from ipar._seed import as_seed
from ipar.model import IGA, IPALite, Views
from ipar.tl._attention_record import quadrant_attention
from ipar.tl._sample import sample_coords
from ipar.tl._stored import stored_model, warn_unlocalisable

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("ipar")


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

    Cells are embedded, find their candidates and are laid out by the network: all at once while there are no more than
    the sets trained on, and beyond that by consensus: random subsets that share anchor cells are laid out, aligned on
    the anchors and averaged, over several rounds with new anchors. Time and memory are linear in the number of cells.
    The network sees neighbourhoods; what was taught distances across the tissue adds a layout of its own.

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
        Consensus rounds; by default 8, and 4 beyond 20,000 cells. More smooth the layout a little.
    global_weight
        Share, between 0 and 1, that the layout of what was taught distances across the tissue has in the result (the
        embedding, and a network that sees the whole set; their first two principal components) beside the network's, before
        the flow has its share; by default the model's, see :func:`ipar.tl.fit_ipalite`. At 0, and with a `flow_weight` of 0,
        the network alone decides: lower E_geo, that is better neighbourhoods at every scale up to a fifth of the tissue, and
        a worse rank of distances across the tissue.
    flow_weight
        Share, between 0 and 1, of what the flow expects in the result, by default the model's, a half, or none where it
        was fitted with ``flow=False``. 0 leaves it out.
    sharpen
        Draw cells together that are alike in the embedding and in the sample's own principal components, as far as the
        left-out training slide allowed it: more true neighbours, the same map. See :class:`ipar.model.Sharpening`.
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
        The first guess and the layout after every recycle, aligned to the last, ``(n, 2(R + 1))``.
    ``.obsm["X_ipar_embed"]``
        The embedding, where it is missing or from another model.
    ``.obs["ipar_uncertainty"]``
        Expected distance of the cell from its true place, after alignment, in RMS radii of the tissue, float32: learned
        from the errors on training slides left out and, where the model has a flow, from how far samples of it disagree,
        drawn for 1,500 cells of a slide at most (see :class:`ipar.model.UncertaintyHead`). It ranks cells of a section and
        gives their mean error about right; it is no bound. ``<key_added>_uncertainty`` for another key; missing
        where the model has no head for it.
    ``.uns["ipar"]["attention"]``
        Attention rows of one cell a quadrant of the (first) slide, for :func:`ipar.pl.attention_focus`.
    ``.uns["ipar"]["prediction"]``
        Method, rounds, subset size, weights, seed, and the model's localisability.

    Raises
    ------
    ValueError
        If no model is given or stored, genes do not match, a slide has fewer than four cells, or `global_weight` is not
        a share.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised, or that looks mirrored or repeated.
    """
    random_state = as_seed(random_state)
    adata = adata.copy() if copy else adata
    if model is None:
        model, library_key = stored_model(adata, library_key)
        layer = layer or adata.uns.get(EMBED_RECORD, {}).get("layer")
    if isinstance(model, IGA):
        _refuse_for_samples(n_rounds=n_rounds, global_weight=global_weight, flow_weight=flow_weight)
        sample_coords(
            adata,
            model,
            library_key=library_key,
            layer=layer,
            sharpen=sharpen,
            random_state=random_state,
            device=device,
            progress=progress,
            key_added=key_added,
        )
        return adata if copy else None
    expression = get_expression(adata, layer=layer)
    warn_empty_cells(expression)
    slides = get_slides(adata, library_key)
    warn_unlocalisable(model.record)
    _move(model, device)
    views = model.encoder.views(expression.matrix, expression.genes, slides)
    options = {
        "n_rounds": n_rounds,
        "global_weight": global_weight,
        "flow_weight": flow_weight,
        "sharpen": sharpen,
        "random_state": random_state,
        "progress": progress,
    }
    own = None
    if sharpen and model.sharpening is not None and model.sharpening.own:
        own = model.encoder.own_components(expression.matrix, expression.genes, slides)
    coords, recycles, method = _layouts(model, views, own, slides, options)
    adata.obsm[key_added] = coords
    adata.obsm[f"{key_added}_recycles" if key_added != COORDS else RECYCLES] = recycles
    if EMBED not in adata.obsm or EMBED_RECORD not in adata.uns:
        adata.obsm[EMBED] = views.h
    seeds = {"random_state": random_state, "progress": progress}
    _write_uncertainty(adata, model, views, slides, uncertainty_key(key_added), seeds)
    record(adata)["attention"] = quadrant_attention(model, views.h, coords, slides, random_state)
    done = {"method": method, "key_added": key_added} | ({"library_key": library_key} if library_key else {})
    record(adata)["prediction"] = _settings(model, slides, options) | done
    return adata if copy else None


def _move(model: IPALite, device: str) -> None:
    target = get_device(device)
    for part in (model, model.flow):
        if part is not None:
            part.net.to(target)
            part.gate.to(target)


def _settings(model: IPALite, slides: pd.Categorical, options: dict[str, Any]) -> dict[str, Any]:
    """What the layouts were made with: options that were given, else those of the model."""
    given = {name: value for name, value in options.items() if value is not None}
    shares = {"global_weight": model.global_weight} | ({} if model.flow is None else {"flow_weight": model.flow_weight})
    return {
        **{name: given.get(name, default) for name, default in shares.items()},
        "n_rounds": options["n_rounds"] or model.plan.rounds_for(int(np.bincount(slides.codes).max())),
        "subset_size": model.plan.subset_size,
        "sharpened": options["sharpen"] and model.sharpening is not None,
        "n_cells": len(slides),
        "random_state": options["random_state"],
        "localisable": bool(model.record.get("localisability", {}).get("localisable", True)),
    }


def _refuse_for_samples(**options: float | None) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = f"{' and '.join(given)} belong to IPALite models; for an IGA model leave them out, see ipar.tl.sample_coords."
        raise ValueError(msg)


def _layouts(
    model: IPALite,
    views: Views,
    components: NDArray[np.float32] | None,
    slides: pd.Categorical,
    options: dict[str, Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    n_layouts = model.net.config.n_recycles + 1
    recycles = np.empty((len(slides), 2 * n_layouts), dtype=np.float32)
    methods = []
    for name in slides.categories:
        cells = np.flatnonzero(slides == name)
        h, far, across = (view[cells] for view in views)
        own = None if components is None else components[cells]
        layout = model.layout(h, far=far, across=across, components=own, **options)
        recycles[cells] = layout.recycles.transpose(1, 0, 2).reshape(len(cells), -1)
        methods.append(layout.method)
    return recycles[:, -2:].copy(), recycles, "consensus" if "consensus" in methods else "direct"


def _write_uncertainty(
    adata: AnnData,
    model: IPALite,
    views: Views,
    slides: pd.Categorical,
    key: str,
    options: dict[str, Any],
) -> None:
    if key in adata.obs:
        del adata.obs[key]  # it speaks of coordinates that were just replaced
    if model.uncertainty is None:
        return
    expected = np.empty(len(views.h), dtype=np.float32)
    for name in slides.categories:
        cells = np.flatnonzero(slides == name)
        expected[cells] = model.expected_error(views.h[cells], views.far[cells], **options)
    adata.obs[key] = expected
