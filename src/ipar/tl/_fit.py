"""Training of IPA-Lite on AnnData."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ipar._anndata import Source
from ipar._run import Run
from ipar.model import IPALite
from ipar.nn import IPALiteConfig
from ipar.tl._training import read_training, slide_ellipses, verdict, write_fit
from ipar.training import Recipe
from ipar.training import fit_ipalite as fit_model

if TYPE_CHECKING:
    from anndata import AnnData


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

    Runs :func:`ipar.pp.embed` where its result is missing. The layout network and the flow are trained on the
    cross-fitted embedding without one held-out slide, on which the number of epochs, the sharpening and the expected error
    are chosen. With fewer than four slides they are then trained again on all of them. Ctrl-C ends the training of a
    network and keeps its best weights so far.

    Parameters
    ----------
    adata
        Training slides, log-normalised, with coordinates; at least two slides of at least 50 cells.
    library_key
        Categorical column of ``obs`` that tells slides apart.
    recipe
        All knobs of the fit, stage by stage.
    config
        Layout network: a member of the family by name (``"v1"``, ``"v2"``, ``"d7"``, ``"ipar2d"``) or a config of your
        own; the recipe's (``"v1"``), if None. It is stored with the model.
    n_neighbors
        Candidates per cell; the recipe's (100), if None. Every set of cells finds its own candidates in the embedding:
        graphs in ``obsp`` are not read.
    n_minisets
        Random subsets of slides that the layout network is trained on; the recipe's (64), if None.
    max_epochs
        Passes over the training sets; the recipe's (network 12, flow 30), if None.
    flow
        Also train the flow and average its expected layout in (weights: network 0.25, global map 0.25, flow 0.5; without
        it network 0.2, global map 0.8). :func:`sample_coords` draws its samples.
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
        The fitted model. Writes what :func:`ipar.pp.embed` writes, and

    ``.uns["ipar"]["history"]``
        DataFrame, one row per epoch of the run without the held-out slide: losses, and the validation energy E_geo on
        target edges with gate scores zero (``val_target``) and on gated candidates (``val_gated``).
    ``.uns["ipar"]["history_best"]``
        The epoch chosen.
    ``.uns["ipar"]["fit"]``
        The held-out slide, weights and settings; ``"finish"``, the table by which the sharpening was chosen on that slide,
        and ``"neighbors"``, that by which the share of the slide PCs was; ``"uncertainty_spearman"`` and
        ``"certain_half_error"``, how well expected errors rank true ones on held-out slides.
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.predict_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable, or an option is; the message names the remedy.
    """
    recipe = (recipe or Recipe()).with_network(config, n_neighbors, n_minisets).with_epochs(max_epochs)
    recipe, run = recipe if flow else replace(recipe, flow=None), Run.of(random_state, device, progress)
    source = Source(library_key, spatial_key, layer, mask_var)
    known = read_training(adata, source, recipe.embed, run)
    ellipses = [slide_ellipses(slide) for slide in known.slides]
    fit = fit_model(known.slides, known.embedded, ellipses, recipe, run)
    settings = {"random_state": run.seed, "library_key": library_key, "validation_slide": fit.held_out}
    own = {"localisability": verdict(adata), "best_epoch": fit.stage.best_epoch, **settings}
    model = replace(fit.model, record=own)
    shares = {"global_weight": model.blend.global_map, "flow_weight": model.blend.flow}
    plan = recipe.network.plan
    settings |= {"n_minisets": plan.n_minisets, "n_neighbors": plan.n_neighbors, "beta": model.network.beta, **shares}
    write_fit(adata, model, fit, settings)
    return model
