"""Training of IPA-Lite on AnnData."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ipar._anndata import (
    CANDIDATES,
    check_slide_sizes,
    get_coords,
    get_slides,
    record,
)
from ipar._device import get_device
from ipar._seed import as_seed
from ipar.model import IGA, ConsensusPlan, IPALite
from ipar.model._encoder import Inputs
from ipar.model._io import model_state
from ipar.model._uncertainty import spread_of
from ipar.nn import IPALiteConfig
from ipar.pp._embed import stored_encoder
from ipar.tl._fitting import Seen, embedding_of, prepare_candidates, seen_slides, verdict, with_epochs
from ipar.tl._flow import fitted_flow
from ipar.training._fit_finish import BESIDE_FLOW, RETRAINED_WEIGHT, Finish, choose_finish
from ipar.training._fit_ipalite import IPALiteFit, MinisetPlan, fit_networks
from ipar.training._fit_uncertainty import beside_samples, fit_uncertainty, scaled_to
from ipar.training._left_out import FEW_SLIDES
from ipar.training._loop import IPALiteTraining

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("ipar")


def fit_ipalite(
    adata: AnnData,
    library_key: str,
    *,
    config: IPALiteConfig | str | None = None,
    training: IPALiteTraining | None = None,
    n_minisets: int = 64,
    miniset_size: tuple[int, int] = (96, 384),
    n_neighbors: int | None = None,
    inputs: Inputs | None = None,
    max_epochs: int | None = None,
    refit: bool | None = None,
    flow: bool = True,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> IPALite:
    """Learn to place cells from slides with coordinates.

    Runs :func:`ipar.pp.embed` and :func:`ipar.pp.candidates` where their results are missing. The layout network is
    trained on the cross-fitted embeddings with one slide left out, on which the number of epochs is chosen, and the gate's
    weight β too, where there is no second training; with few slides it is trained again on all of them, and keeps the β of
    the training. What follows the network is chosen on the left-out slide as well: the sharpening of neighbourhoods and,
    without a flow and a second training, the weight of the overview. Ctrl-C ends the training and keeps the best weights so
    far.

    Parameters
    ----------
    adata
        Training slides, log-normalised, with coordinates; at least two slides of at least 50 cells.
    library_key
        Categorical column of ``obs`` that tells slides apart.
    config
        Shape of the network: a member of the family by name (``"v1"``, ``"v2"``, ``"d7"``, ``"ipar2d"``) or a config
        with switches of your own; :meth:`ipar.nn.IPALiteConfig.v1` by default. It is stored with the model.
    training
        The recipe: optimiser, loss weights, augmentation, early stopping.
    n_minisets
        Random subsets trained on. The embedding limits the result, not their number: energies on left-out slides
        settle after some 300 steps of two minisets.
    miniset_size
        Smallest and largest subset.
    n_neighbors
        Candidates a cell; that of :func:`ipar.pp.candidates` where it has run, else 100.
    inputs
        Input of the encoder, see :func:`ipar.pp.embed`.
    max_epochs
        Passes over the minisets; that of the recipe, if None.
    refit
        Train again on all slides for the chosen number of epochs; otherwise the layout network never trains on the
        left-out slide (the encoder does). By default with fewer than four slides, where one slide is much.
    flow
        Train the generative model of :func:`fit_iga` beside the network, on the same embedding; the layout that it expects is
        a third one, of the same weight as the other two together, in equal parts (the overview has 0.8 of them without it,
        if trained twice). Two learners err differently: slides left out are better placed in all scores on average. It costs
        about as much again as the network, which False saves; Ctrl-C before the end of its first epoch leaves it out.
        :func:`sample_coords` draws its samples.
    spatial_key
        Key of the coordinates in ``obsm``.
    layer, mask_var
        Expression that is read, see :func:`ipar.pp.embed`.
    random_state
        Seed. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show progress bars with the losses.

    Returns
    -------
    IPALite
        The fitted model. Writes what :func:`ipar.pp.embed` and :func:`ipar.pp.candidates` write, and

    ``.uns["ipar"]["history"]``
        DataFrame, one row an epoch of the run with a slide left out: losses, and the validation energy E_geo on target
        edges with gate scores zero (``val_target``) and on gated candidates (``val_gated``).
    ``.uns["ipar"]["history_best"]``
        The epoch chosen.
    ``.uns["ipar"]["fit"]``
        β, ``"unseen_beta"``, that of the run with a slide left out, and the energies it was chosen by, that slide, settings;
        ``"finish"`` is the table by which the sharpening, and the weight of the overview if it was, were chosen on that
        slide, ``"neighbors"`` that by which the share of a slide's own principal components was; ``"uncertainty_spearman"``
        and ``"certain_half_error"`` say how well expected errors tell true ones on training slides left out, with a flow on
        the one that the flow has not seen.
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.predict_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable; the message names the remedy.
    """
    random_state = as_seed(random_state)
    slides = get_slides(adata, library_key, minimum=2)
    check_slide_sizes(slides)
    coords = get_coords(adata, spatial_key)
    embedding = embedding_of(
        adata,
        library_key,
        coords,
        slides,
        inputs=inputs,
        spatial_key=spatial_key,
        layer=layer,
        mask_var=mask_var,
        random_state=random_state,
        device=device,
        progress=progress,
    )
    prepare_candidates(adata, library_key, n_neighbors, random_state)
    k = int(adata.uns[CANDIDATES]["params"]["n_neighbors"])
    rows = [np.flatnonzero(slides == name) for name in slides.categories]
    again = len(rows) <= FEW_SLIDES if refit is None else refit
    fit = fit_networks(
        [embedding[cells] for cells in rows],
        [coords[cells] for cells in rows],
        config=IPALiteConfig.named(config) if isinstance(config, str) else config,
        training=_recipe(training, max_epochs),
        plan=MinisetPlan(n_minisets, miniset_size, k),
        refit=again,
        random_state=random_state,
        device=get_device(device),
        progress=progress,
    )
    settings = {
        "random_state": random_state,
        "n_minisets": n_minisets,
        "library_key": library_key,
        "validation_slide": str(slides.categories[fit.validation_slide]),
    }
    model = _assemble(adata, fit, k, miniset_size, settings)
    known = embedding, coords, slides
    seen = seen_slides(adata, model.encoder, *known, fit.validation_slide, layer=layer, random_state=random_state)
    before = None
    if flow:
        options: dict[str, Any] = {"random_state": random_state, "device": get_device(device), "progress": progress}
        try:
            drawn, before = fitted_flow(model.encoder, *known, max_epochs=max_epochs, refit=again, **options)
            model = replace(model, flow=drawn)
        except KeyboardInterrupt:  # the network is worth keeping
            logger.warning("Interrupted before the end of the flow's first epoch: the model is without one.")
    model, finish = _finished(model, fit, before, seen, random_state)
    model, ranks = _with_uncertainty(model, before, seen, finish, random_state)
    _write(adata, model, fit, finish, settings | ranks)
    return model


def _recipe(training: IPALiteTraining | None, max_epochs: int | None) -> IPALiteTraining:
    training = with_epochs(training or IPALiteTraining(), max_epochs)
    if max_epochs is None:
        return training
    # a short run still reaches the full walk weight, otherwise no epoch would count
    return replace(training, ramp_epochs=max(1, min(training.ramp_epochs, max_epochs // 2)))


def _assemble(
    adata: AnnData, fit: IPALiteFit, n_neighbors: int, size: tuple[int, int], settings: dict[str, Any]
) -> IPALite:
    return IPALite(
        encoder=stored_encoder(adata),
        net=fit.net.cpu(),
        gate=fit.gate.cpu(),
        beta=fit.beta,
        n_neighbors=n_neighbors,
        plan=ConsensusPlan(direct_max=size[1], subset_size=sum(size) // 2, n_anchors=sum(size) // 6),
        record={"localisability": verdict(adata), "best_epoch": fit.best_epoch, **settings},
    )


def _finished(
    model: IPALite, fit: IPALiteFit, flow: IGA | None, seen: Seen, random_state: int
) -> tuple[IPALite, Finish]:
    """The model with the steps after the network, chosen on the slide that network and flow were not trained on."""
    networks: dict[str, Any] = {"net": fit.unseen[0].cpu(), "gate": fit.unseen[1].cpu(), "beta": fit.unseen_beta}
    before = replace(model, **networks, flow=flow)
    h, far, coords = (part[seen.left] for part in seen[:3])
    network = before.layout(h, global_weight=0.0, flow_weight=0.0, sharpen=False, random_state=random_state).coords
    weight = RETRAINED_WEIGHT if fit.retrained else None
    options: dict[str, Any] = {"components": seen.components, "random_state": random_state}
    if flow is not None:
        weight = BESIDE_FLOW
        options |= {"flow": before.flow_mean(h, random_state), "flow_weight": model.flow_weight}
    finish = choose_finish(network, h, far, coords, global_weight=weight, **options)
    return replace(model, global_weight=finish.global_weight, sharpening=finish.sharpening), finish


def _with_uncertainty(
    model: IPALite, flow: IGA | None, seen: Seen, finish: Finish, random_state: int
) -> tuple[IPALite, dict[str, float]]:
    """The model with expected errors, to the scale of the finished left-out slide, and how well they rank true ones."""
    left = seen.left
    fit = fit_uncertainty(seen.h, seen.far, seen.coords, random_state=random_state)
    head = scaled_to(fit.head, seen.far[left], finish.layout, seen.coords[left])
    ranks = {"uncertainty_spearman": fit.spearman, "certain_half_error": fit.certain_half}
    if flow is not None:
        spread = spread_of(flow, seen.h[left], random_state)
        head, ranks = beside_samples(head, fit.values[left], spread, finish.layout, seen.coords[left])
    return replace(model, uncertainty=head), ranks


def _write(adata: AnnData, model: IPALite, fit: IPALiteFit, finish: Finish, settings: dict[str, Any]) -> None:
    written = record(adata)
    settings_json, arrays = model_state(model)
    written["history"] = fit.history
    written["history_best"] = fit.best_epoch
    written["fit"] = {**settings, "beta": fit.beta, "unseen_beta": fit.unseen_beta, "betas": fit.betas}
    written["fit"]["n_neighbors"] = model.n_neighbors
    written["fit"] |= {"global_weight": finish.global_weight, "finish": finish.table, "neighbors": finish.neighbors}
    written["model"] = {"config": json.dumps(settings_json), "arrays": arrays}
