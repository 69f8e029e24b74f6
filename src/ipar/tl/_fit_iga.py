"""Training of IGA on AnnData."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import ELLIPSE, ELLIPSE_COLUMNS, Source, get_coords
from ipar._run import Run
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IGA
from ipar.nn import IGAConfig
from ipar.tl._training import read_training, slide_ellipses, verdict, write_fit
from ipar.training import Recipe
from ipar.training import fit_iga as fit_model

if TYPE_CHECKING:
    from anndata import AnnData


def fit_iga(
    adata: AnnData,
    library_key: str,
    *,
    recipe: Recipe | None = None,
    config: IGAConfig | None = None,
    n_neighbors: int | None = None,
    max_epochs: int | None = None,
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

    Runs :func:`ipar.pp.embed` where its result is missing. The network is trained on the cross-fitted embedding without
    one held-out slide, on which the number of epochs is chosen, and how the mean of samples is sharpened. With fewer than
    four slides it is then trained again on all of them. Ctrl-C ends the training and keeps the best weights so far.

    Parameters
    ----------
    adata
        Training slides, log-normalised, with coordinates in two or three dimensions; at least two slides of at least 50
        cells.
    library_key
        Categorical column of ``obs`` that tells slides apart.
    recipe
        All knobs of the fit, stage by stage; the layout network's play no part.
    config
        Denoising network, with its switches ``attention_geometry`` and ``corrupt_gaussians``; the recipe's, if None.
        Dimensions and units are taken from the data.
    n_neighbors
        Candidates per cell within a training set; the recipe's (48), if None.
    max_epochs
        Passes over the training sets; the recipe's (30), if None.
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
        DataFrame, one row per epoch of the run without the held-out slide: share of true ellipses that attention reads, every
        term of the loss, attention's debug signals (largest geometry term ``geo_scaled_absmax``, share of saturated rows
        ``wmax_sat_frac``, smallest log-determinant ``log_det_min``), and the losses on the left-out slide, their pose part
        also with attention on the true ellipses (``val_pose_clean``).
    ``.uns["ipar"]["history_best"]``
        The epoch chosen.
    ``.uns["ipar"]["fit"]``
        The held-out slide, settings; ``"finish"`` is the table by which the sharpening was chosen on that slide,
        ``"neighbors"`` that by which the share of the slide PCs was (in two dimensions).
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
    recipe = (recipe or Recipe()).with_flow(config, n_neighbors).with_epochs(max_epochs)
    run = Run.of(random_state, device, progress)
    source = Source(library_key, spatial_key, layer, mask_var)
    coords = get_coords(adata, spatial_key, dims=(2, 3))
    table = _ellipses(adata, coords.shape[1], ellipse_key)
    known = read_training(adata, source, recipe.embed, run, dims=(2, 3))
    if table is None:
        ellipses = [slide_ellipses(slide) for slide in known.slides]
    else:
        ellipses = [table[cells] for cells in cells_by_slide(known.labels, len(known.labels))]
    fit = fit_model(known.slides, known.embedded, ellipses, recipe, run)
    settings = {"random_state": run.seed, "library_key": library_key, "validation_slide": fit.held_out}
    model = replace(
        fit.model, record={"localisability": verdict(adata), "best_epoch": fit.stage.best_epoch, **settings}
    )
    net = model.flow.net.config
    settings |= {name: getattr(net, name) for name in ("attention_geometry", "corrupt_gaussians", "n_dims")}
    write_fit(adata, model, fit, settings | {"n_neighbors": model.flow.n_neighbors})
    return model


def _ellipses(adata: AnnData, d: int, ellipse_key: str) -> NDArray[np.float32] | None:
    """The table of ellipses for coordinates in d dimensions, checked; None where there is none under the default key."""
    if ellipse_key not in adata.obsm and ellipse_key == ELLIPSE:
        return None
    if ellipse_key not in adata.obsm:
        msg = f"adata.obsm has no {ellipse_key!r}: run ipar.pp.cell_ellipses(adata, ..., key_added={ellipse_key!r}) first."
        raise KeyError(msg)
    table = np.asarray(adata.obsm[ellipse_key], dtype=np.float32)
    columns = ELLIPSE_COLUMNS[d]
    if table.shape != (adata.n_obs, len(columns)) or not np.isfinite(table).all() or (table[:, d : 2 * d] < 0).any():
        msg = (
            f"obsm[{ellipse_key!r}] must hold the finite columns {', '.join(columns)} for coordinates in {d} dimensions, "
            f"standard deviations not negative, found shape {table.shape}: run ipar.pp.cell_ellipses(adata) again."
        )
        raise ValueError(msg)
    return table
