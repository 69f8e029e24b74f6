"""Training of IPA-Lite on AnnData."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ipar._anndata import Source, warn
from ipar._descent import Precision
from ipar._docs import shared_docs
from ipar._engine import Accelerator, Devices, Engine, Strategy
from ipar._options import Count
from ipar._public import public
from ipar._run import Device, Run
from ipar.model import IPALite
from ipar.nn import IPALiteConfig
from ipar.tl._training import is_embedded, read_training, reference_of, verdict, with_record, write_fit
from ipar.training import FlowRecipe, Recipe
from ipar.training import fit_ipalite as fit_model
from ipar.training.cautions import caution
from ipar.training.recipe import Quality

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("ipar")


@public
@shared_docs
def fit_ipalite(
    adata: AnnData,
    library_key: str | None = None,
    *,
    quality: Quality = "default",
    use_rep: str | None = None,
    recipe: Recipe | None = None,
    config: IPALiteConfig | str | None = None,
    n_neighbors: Count | None = None,
    max_epochs: Count | None = None,
    flow: bool | None = None,
    force: bool = False,
    keep_reference: bool = True,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    strategy: Strategy = "auto",
    precision: Precision = "auto",
    progress: bool = True,
) -> IPALite:
    """Learn to place cells from slides with coordinates.

    Runs :func:`ipar.pp.embed` first if its result is missing. Press Ctrl-C to end the training of a network and keep its
    best weights so far.

    Parameters
    ----------
    adata
        Training slides of at least 50 cells, or one section of at least 200, log-normalised, with coordinates.
    %(sections)s
    quality
        How much time to take: ``"fast"`` for a first look, ``"default"``, or ``"best"``, which also trains the flow. The
        docs have a table of times and scores.
    use_rep
        Key of ``obsm`` with an embedding of your own, such as ``"X_scVI"``, to use in place of ipar's encoder (default: train
        one). Cells to place must have the same embedding.
    recipe
        Settings of every stage of the fit, in place of a quality. Arguments below override them.
    config
        Layout network: ``"v1"``, ``"v2"``, ``"d7"``, ``"ipar2d"``, or a config of your own (default: ``"v1"``).
    n_neighbors
        Candidates per cell (default: 100).
    max_epochs
        Passes over the training sets (default: 8 for the network, 30 for the flow).
    flow
        Also train the flow, average its expected layout in, and let :func:`sample_coords` draw from it (default: with
        ``quality="best"`` or a recipe with a flow).
    force
        Take the full time for a tissue that cannot be localised, too. By default, what follows the verdict is fitted in its
        fast form.
    keep_reference
        Keep features and coordinates of the training cells in the model, about 140 bytes per cell. Cells are placed onto
        training slides by them, and the genes of a query are centred by them.
    %(training)s
    %(engine)s

    Returns
    -------
    IPALite
        The fitted model. Writes the results of :func:`ipar.pp.embed`, and

    ``.uns["ipar"]["history"]``
        DataFrame with one row per epoch: losses, the validation energy E_geo on target edges with gate scores zero
        (``val_target``) and on gated candidates (``val_gated``), and figures of the attention in the last recycle and of the
        layout, on one miniset of the held-out slide.
    ``.uns["ipar"]["history_best"]``
        The chosen epoch.
    ``.uns["ipar"]["fit"]``
        Settings, weights and the held-out slide; ``"finish"``, the table by which sharpening was chosen on that slide;
        ``"uncertainty_spearman"`` and ``"certain_half_error"``, how well expected errors rank true ones on held-out slides;
        ``"health"``, standard checks of the network on the held-out slide
        (:func:`~ipar.training.health.network_health`); ``"candidate_recall"``, the share of true neighbours among candidates
        there, by the number of candidates; ``"seconds"``, the time of every stage.
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.predict_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates, expression or an option are missing or not usable.

    Warns
    -----
    UserWarning
        If `config` or `recipe` have a switch that harmed in the figures of the founding recipe, or if the trained network has
        collapsed: its layout onto a line or a point, or its attention onto single cells.

    Notes
    -----
    Of a single section, parts made of contiguous blocks are held out in the place of slides, and nothing is learned from a
    margin around them. Such parts share the animal and the batch with what teaches: figures on them are optimistic for others.

    The model keeps how its expression was normalised. Slides that differ from most others are brought to their scale on a
    copy, with a warning.

    Network and flow are trained on the cross-fitted embedding without one held-out slide. The number of epochs, the
    sharpening and the expected error are chosen on that slide. With fewer than four slides, training then goes on with all
    slides.

    Each set of cells finds its own candidates in the embedding: graphs in ``obsp`` are not read.

    A layout is the mean of those of the network and the global map; with a flow, of these (weight 0.25 each) and that of the
    flow (0.5).
    """
    recipe = _recipe(quality, recipe, flow).with_network(config, n_neighbors).with_epochs(max_epochs)
    source = Source(library_key, spatial_key, layer, mask_var, use_rep, gene_key)
    engine = Engine(device, accelerator, devices, strategy, precision)
    if (harm := caution(recipe.network)) is not None:
        warn(harm)
    fit = partial(_fit, source=source, recipe=recipe, force=force, keep_reference=keep_reference)
    return engine.run(adata, fit, random_state, progress)


def _fit(adata: AnnData, run: Run, *, source: Source, recipe: Recipe, force: bool, keep_reference: bool) -> IPALite:
    """A fit on one device, or one of several."""
    library_key = source.library_key
    embedded = bool(source.given_rep) or is_embedded(adata, library_key)
    run = run.planned(recipe.costs(embedded=embedded))
    known = read_training(adata, source, recipe, (recipe.network, recipe.flow), run, force=force)
    if not (force or verdict(adata).get("localisable", True)):
        recipe = recipe.refused()
        run = run.planned(recipe.costs(embedded=embedded))
    fit = fit_model(known.parts, known.embedded, known.ellipses(), known.folds, recipe, run)
    if keep_reference:
        fit = replace(fit, model=replace(fit.model, reference=reference_of(adata, known, source.spatial_key)))
    model, settings = with_record(adata, fit, known, library_key, run)
    plan, blend = recipe.network.plan, model.blend
    settings |= {"n_minisets": plan.n_minisets, "n_neighbors": plan.n_neighbors, "beta": model.network.beta}
    settings |= {"global_weight": blend.global_map, "flow_weight": blend.flow, "seconds": run.seconds}
    write_fit(adata, model, fit, settings)
    _tell_health(fit.stage.checks, recipe)
    return model


def _tell_health(checks: dict[str, Any], recipe: Recipe) -> None:
    """Warn of a collapse, and log a hint where candidates miss many true neighbours."""
    limits, n_neighbors = recipe.network.health, recipe.network.plan.n_neighbors
    if problems := limits.problems(checks["health"]):
        warn(
            f"On the held-out slide, {'; '.join(problems)}. Its layouts mean little: fit again with another random_state, or a "
            "lower learning rate. adata.uns['ipar']['fit']['health'] has the figures."
        )
    recall = checks["candidate_recall"]
    if recall[str(n_neighbors)] < limits.least_recall:
        shown = ", ".join(f"{value:.2f} with {count}" for count, value in recall.items())
        logger.info(
            "Candidates hold fewer than %.0f%% of true neighbours: recall is %s.", 100 * limits.least_recall, shown
        )


def _recipe(quality: Quality, recipe: Recipe | None, flow: bool | None) -> Recipe:
    """The recipe of a quality, or the one given, with a flow or without."""
    if recipe is not None and quality != "default":
        msg = f"quality and recipe were both given ({quality!r} and a Recipe): leave one of them out."
        raise ValueError(msg)
    recipe = Recipe.of(quality) if recipe is None else recipe
    if flow is None:
        return recipe
    return replace(recipe, flow=(recipe.flow or FlowRecipe()) if flow else None)
