"""Training of IPA-Lite on AnnData."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ipar._anndata import Source
from ipar._docs import shared_docs
from ipar._run import Run
from ipar.model import IPALite
from ipar.nn import IPALiteConfig
from ipar.tl._training import read_training, slide_ellipses, with_record, write_fit
from ipar.training import Recipe
from ipar.training import fit_ipalite as fit_model

if TYPE_CHECKING:
    from anndata import AnnData


@shared_docs
def fit_ipalite(
    adata: AnnData,
    library_key: str,
    *,
    recipe: Recipe | None = None,
    config: IPALiteConfig | str | None = None,
    n_neighbors: int | None = None,
    n_minisets: int | None = None,
    max_epochs: int | None = None,
    flow: bool = True,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> IPALite:
    """Learn to place cells from slides with coordinates.

    Runs :func:`ipar.pp.embed` first if its result is missing. Press Ctrl-C to end the training of a network and keep its
    best weights so far.

    Parameters
    ----------
    adata
        At least two training slides of at least 50 cells, log-normalised, with coordinates.
    %(slides)s
    recipe
        Settings of every stage of the fit. Arguments below override them.
    config
        Layout network: ``"v1"``, ``"v2"``, ``"d7"``, ``"ipar2d"``, or a config of your own (default: ``"v1"``).
    n_neighbors
        Candidates per cell (default: 100).
    n_minisets
        Random subsets of slides to train the layout network on (default: 64).
    max_epochs
        Passes over the training sets (default: 12 for the network, 30 for the flow).
    flow
        Also train the flow and average its expected layout in (weights: network 0.25, global map 0.25, flow 0.5).
    %(training)s

    Returns
    -------
    IPALite
        The fitted model. Writes the results of :func:`ipar.pp.embed`, and

    ``.uns["ipar"]["history"]``
        DataFrame with one row per epoch: losses, and the validation energy E_geo on target edges with gate scores zero
        (``val_target``) and on gated candidates (``val_gated``).
    ``.uns["ipar"]["history_best"]``
        The chosen epoch.
    ``.uns["ipar"]["fit"]``
        Settings, weights and the held-out slide; ``"finish"``, the table by which sharpening was chosen on that slide;
        ``"uncertainty_spearman"`` and ``"certain_half_error"``, how well expected errors rank true ones on held-out slides.
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.predict_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates, expression or an option are missing or not usable.

    Notes
    -----
    Network and flow are trained on the cross-fitted embedding without one held-out slide. The number of epochs, the
    sharpening and the expected error are chosen on that slide. With fewer than four slides, network and flow are then
    trained again on all slides.

    Each set of cells finds its own candidates in the embedding: graphs in ``obsp`` are not read.

    Without the flow, the weights are network 0.2 and global map 0.8, and :func:`sample_coords` cannot draw samples.
    """
    recipe = (recipe or Recipe()).with_network(config, n_neighbors, n_minisets).with_epochs(max_epochs)
    recipe, run = recipe if flow else replace(recipe, flow=None), Run.of(random_state, device, progress)
    known = read_training(adata, Source(library_key, spatial_key, layer, mask_var), recipe.embed, run)
    ellipses = [slide_ellipses(slide) for slide in known.slides]
    fit = fit_model(known.slides, known.embedded, ellipses, recipe, run)
    model, settings = with_record(adata, fit, library_key, run)
    plan, blend = recipe.network.plan, model.blend
    settings |= {"n_minisets": plan.n_minisets, "n_neighbors": plan.n_neighbors, "beta": model.network.beta}
    settings |= {"global_weight": blend.global_map, "flow_weight": blend.flow}
    write_fit(adata, model, fit, settings)
    return model
