"""Training of IGA on AnnData."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import (
    ELLIPSE,
    ELLIPSE_COLUMNS,
    check_slide_sizes,
    get_coords,
    get_slides,
    record,
)
from ipar._device import get_device
from ipar._seed import as_seed
from ipar.model import IGA
from ipar.model._encoder import Inputs
from ipar.model._io import model_format, model_state
from ipar.nn import IGAConfig
from ipar.pp._ellipses import neighbor_ellipses
from ipar.pp._embed import stored_encoder
from ipar.tl._fitting import Seen, embedding_of, seen_slides, verdict, with_epochs
from ipar.tl._flow import N_NEIGHBORS_ELLIPSE
from ipar.training import EncoderRecipe, FlowTraining, IGAFit, MinisetPlan, fit_flow
from ipar.training._fit_finish import Finish, choose_finish
from ipar.training._left_out import FEW_SLIDES

if TYPE_CHECKING:
    from anndata import AnnData

# samples of the left-out slide and steps of each: half of what is drawn by default, in a quarter of the time
_N_TRIED, _N_STEPS_TRIED = 10, 25


def fit_iga(
    adata: AnnData,
    library_key: str,
    *,
    config: IGAConfig | None = None,
    training: FlowTraining | None = None,
    n_minisets: int = 48,
    miniset_size: tuple[int, int] = (128, 256),
    n_neighbors: int = 48,
    inputs: Inputs | None = None,
    recipe: EncoderRecipe | None = None,
    max_epochs: int | None = None,
    refit: bool | None = None,
    ellipse_key: str = ELLIPSE,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> IGA:
    """Learn to sample places, orientations and shapes of cells from slides with coordinates.

    A generative counterpart of :func:`fit_ipalite`, conditioned on the same embeddings: flow matching from noise to poses
    and ellipses, by attention between overlapping Gaussians. Several samples of one set of cells tell how certain each
    place is, and show the alternatives where a tissue repeats or mirrors itself.

    Runs :func:`ipar.pp.embed` where its result is missing. The network is trained on the cross-fitted embeddings with one
    slide left out, on which the number of epochs is chosen, and then again on all slides. How the mean of samples is
    sharpened is chosen on that slide too, as it was before the second training. Ctrl-C ends the training and keeps the
    best weights so far.

    Parameters
    ----------
    adata
        Training slides, log-normalised, with coordinates in two or three dimensions; at least two slides of at least 50
        cells.
    library_key
        Categorical column of ``obs`` that tells slides apart.
    config
        Shape of the network, and its switches ``attention_geometry`` and ``corrupt_gaussians``; dimensions and units are
        taken from the data.
    training
        The recipe: optimiser, loss weights, augmentation.
    n_minisets
        Random subsets trained on.
    miniset_size
        Smallest and largest subset.
    n_neighbors
        Candidates a cell within a subset: about a quarter of it. More cost time in every one of the steps of a sample.
    inputs
        Input of the encoder, see :func:`ipar.pp.embed`.
    recipe
        Shapes and training of the encoder.
    max_epochs
        Passes over the subsets; that of the recipe, if None.
    refit
        Train again on all slides for the chosen number of epochs; otherwise the network never trains on the left-out slide
        (the encoder does). By default with fewer than four slides, where one slide is much.
    ellipse_key
        Key of the ellipses in ``obsm``, from :func:`ipar.pp.cell_ellipses`. Where it is missing, the covariance of a
        cell's 10 nearest stands for its ellipse; nothing is written.
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
    IGA
        The fitted model. Writes what :func:`ipar.pp.embed` writes, and

    ``.uns["ipar"]["history"]``
        DataFrame, one row an epoch of the run with a slide left out: share of true ellipses that attention reads, every
        term of the loss, attention's debug signals (largest geometry term ``geo_scaled_absmax``, share of saturated rows
        ``wmax_sat_frac``, smallest log-determinant ``log_det_min``), and the losses on the left-out slide, their pose part
        also with attention on the true ellipses (``val_pose_clean``).
    ``.uns["ipar"]["history_best"]``
        The epoch chosen.
    ``.uns["ipar"]["fit"]``
        The slide left out, settings; ``"finish"`` is the table by which the sharpening was chosen on that slide,
        ``"neighbors"`` that by which the share of a slide's own principal components was (in two dimensions).
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.sample_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates, ellipses or expression are missing or not usable; the message names the remedy.

    References
    ----------
    Flow matching: Lipman et al. (2023), on rigid poses Yim et al., arXiv:2310.05297 (2023).
    """
    random_state = as_seed(random_state)
    slides = get_slides(adata, library_key, minimum=2)
    check_slide_sizes(slides)
    coords = get_coords(adata, spatial_key, dims=(2, 3))
    ellipses = _ellipses(adata, coords, slides, ellipse_key)
    embedding = embedding_of(
        adata,
        library_key,
        coords,
        slides,
        inputs=inputs,
        recipe=recipe,
        spatial_key=spatial_key,
        layer=layer,
        mask_var=mask_var,
        random_state=random_state,
        device=device,
        progress=progress,
    )
    rows = [np.flatnonzero(slides == name) for name in slides.categories]
    fit = fit_flow(
        *([part[cells] for cells in rows] for part in (embedding, coords, ellipses)),
        config=config,
        training=with_epochs(training or FlowTraining(), max_epochs),
        plan=MinisetPlan(n_minisets, miniset_size, n_neighbors),
        refit=len(rows) <= FEW_SLIDES if refit is None else refit,
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
    model = _assemble(adata, fit, n_neighbors, miniset_size, settings)
    finish = None
    if coords.shape[1] == 2:  # sharpening is made for sections
        known = embedding, coords, slides
        seen = seen_slides(adata, model.encoder, *known, fit.validation_slide, layer=layer, random_state=random_state)
        finish = _finish(model, fit, seen, random_state, progress=progress)
        model = replace(model, sharpening=finish.sharpening)
    _write(adata, model, fit, finish, settings)
    return model


def _ellipses(
    adata: AnnData, coords: NDArray[np.float32], slides: pd.Categorical, ellipse_key: str
) -> NDArray[np.float32]:
    if ellipse_key not in adata.obsm and ellipse_key == ELLIPSE:
        return neighbor_ellipses(coords, slides, N_NEIGHBORS_ELLIPSE).astype(np.float32)
    if ellipse_key not in adata.obsm:
        msg = f"adata.obsm has no {ellipse_key!r}: run ipar.pp.cell_ellipses(adata, ..., key_added={ellipse_key!r}) first."
        raise KeyError(msg)
    table = np.asarray(adata.obsm[ellipse_key], dtype=np.float32)
    columns, d = ELLIPSE_COLUMNS[coords.shape[1]], coords.shape[1]
    if table.shape != (len(coords), len(columns)) or not np.isfinite(table).all() or (table[:, d : 2 * d] < 0).any():
        msg = (
            f"obsm[{ellipse_key!r}] must hold the finite columns {', '.join(columns)} for coordinates in {d} dimensions, "
            f"standard deviations not negative, found shape {table.shape}: run ipar.pp.cell_ellipses(adata) again."
        )
        raise ValueError(msg)
    return table


def _assemble(adata: AnnData, fit: IGAFit, n_neighbors: int, size: tuple[int, int], settings: dict[str, Any]) -> IGA:
    return IGA(
        encoder=stored_encoder(adata),
        net=fit.net.cpu(),
        gate=fit.gate.cpu(),
        n_neighbors=n_neighbors,
        set_size=size,
        record={"localisability": verdict(adata), "best_epoch": fit.best_epoch, **settings},
    )


def _finish(model: IGA, fit: IGAFit, seen: Seen, random_state: int, *, progress: bool) -> Finish:
    """How the mean of samples is sharpened, chosen on the slide that the network was not trained on."""
    h, far, coords = (part[seen.left] for part in seen[:3])
    before = replace(model, net=fit.unseen[0].cpu(), gate=fit.unseen[1].cpu())
    drawn = before.sample(h, _N_TRIED, n_steps=_N_STEPS_TRIED, random_state=random_state, progress=progress)
    options: dict[str, Any] = {"components": seen.components, "random_state": random_state}
    return choose_finish(drawn.point("mean"), h, far, coords, global_weight=0.0, **options)


def _write(adata: AnnData, model: IGA, fit: IGAFit, finish: Finish | None, settings: dict[str, Any]) -> None:
    config, arrays = model_state(model)
    written = record(adata)
    written["history"] = fit.history
    written["history_best"] = fit.best_epoch
    switches = ("attention_geometry", "corrupt_gaussians", "n_dims")
    shape = {name: getattr(model.net.config, name) for name in switches}
    written["fit"] = {**settings, **shape, "n_neighbors": model.n_neighbors}
    if finish is not None:
        written["fit"] |= {"finish": finish.table.drop(columns="global_weight"), "neighbors": finish.neighbors}
    written["model"] = {"format": model_format(model), "config": json.dumps(config), "arrays": arrays}
