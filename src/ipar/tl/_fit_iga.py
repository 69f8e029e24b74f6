"""Training of IGA on AnnData."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import ELLIPSE, ELLIPSE_COLUMNS, Source, get_coords, plain_array
from ipar._descent import Precision
from ipar._docs import shared_docs
from ipar._engine import Accelerator, Devices, Engine, Strategy
from ipar._options import Count
from ipar._public import public
from ipar._run import Device, Run
from ipar.model import IGA
from ipar.nn import IGAConfig
from ipar.tl._training import is_embedded, read_training, with_record, write_fit
from ipar.training import Recipe
from ipar.training import fit_iga as fit_model

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def fit_iga(
    adata: AnnData,
    library_key: str | None = None,
    *,
    recipe: Recipe | None = None,
    config: IGAConfig | None = None,
    n_neighbors: Count | None = None,
    max_epochs: Count | None = None,
    ellipse_key: str = ELLIPSE,
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
) -> IGA:
    """Learn to sample places, orientations and shapes of cells from slides with coordinates.

    A generative counterpart of :func:`fit_ipalite` on the same embedding: flow matching from noise to poses and ellipses,
    by attention between overlapping Gaussians. Several samples of the same cells show how certain each place is, and the
    alternatives where a tissue repeats or mirrors itself.

    Runs :func:`ipar.pp.embed` first if its result is missing. Press Ctrl-C to end the training and keep the best weights so
    far.

    Parameters
    ----------
    adata
        At least two training slides of at least 50 cells, log-normalised, with coordinates in two or three dimensions.
    %(sections)s
    recipe
        Settings of every stage of the fit. Arguments below override them.
    config
        Denoising network (default: the recipe's). Dimensions and units are taken from the data.
    n_neighbors
        Candidates per cell (default: 48).
    max_epochs
        Passes over the training sets (default: 30).
    ellipse_key
        Key of the ellipses in ``obsm``, from :func:`ipar.pp.cell_ellipses` (default: the covariance of each cell's 10 nearest
        if ``obsm["ellipse"]`` is missing).
    %(training)s
    %(engine)s

    Returns
    -------
    IGA
        The fitted model. Writes the results of :func:`ipar.pp.embed`, and

    ``.uns["ipar"]["history"]``
        DataFrame with one row per epoch: the share of true ellipses that attention reads, the terms of the loss, signals of
        attention (:class:`~ipar.nn.gaussian_attention.AttentionSignals`), and the losses on the held-out slide, with
        ``val_pose_clean`` for attention on the true ellipses.
    ``.uns["ipar"]["history_best"]``
        The chosen epoch.
    ``.uns["ipar"]["fit"]``
        Settings and the held-out slide; in two dimensions also ``"finish"``, the table by which sharpening was chosen.
    ``.uns["ipar"]["model"]``
        The model as plain arrays, so that ``ipar.tl.sample_coords(adata)`` finds it, also after a round trip to disk.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates, ellipses or expression are missing or not usable.

    Notes
    -----
    The network is trained on the cross-fitted embedding without one held-out slide. The number of epochs and the sharpening
    of the mean are chosen on that slide. With fewer than four slides, training then goes on with all slides.

    References
    ----------
    Flow matching: Lipman et al. (2023); on rigid poses: Yim et al., arXiv:2310.05297 (2023).
    """
    recipe = (recipe or Recipe()).with_flow(config, n_neighbors).with_epochs(max_epochs)
    coords = get_coords(adata, spatial_key, dims=(2, 3))
    table = _ellipses(adata, coords.shape[1], ellipse_key)
    source = Source(library_key, spatial_key, layer, mask_var, gene_key=gene_key)
    engine = Engine(device, accelerator, devices, strategy, precision)
    fit = partial(_fit, source=source, recipe=recipe, table=table, n_dims=coords.shape[1])
    return engine.run(adata, fit, random_state, progress)


def _fit(
    adata: AnnData, run: Run, *, source: Source, recipe: Recipe, table: NDArray[np.float32] | None, n_dims: int
) -> IGA:
    """A fit on one device, or one of several."""
    library_key = source.library_key
    left_out = ("network", "expected error", "regions", *(("finish",) if n_dims == 3 else ()))
    costs = recipe.costs(embedded=is_embedded(adata, library_key))
    run = run.planned({stage: cost for stage, cost in costs.items() if stage not in left_out})
    known = read_training(adata, source, recipe, (recipe.flow,), run, dims=(2, 3))
    fit = fit_model(known.parts, known.embedded, known.ellipses(table), known.folds, recipe, run)
    model, settings = with_record(adata, fit, known, library_key, run)
    net = model.flow.net.config
    settings |= {name: getattr(net, name) for name in ("attention_geometry", "corrupt_gaussians", "n_dims")}
    write_fit(adata, model, fit, settings | {"n_neighbors": model.flow.n_neighbors})
    return model


def _ellipses(adata: AnnData, d: int, ellipse_key: str) -> NDArray[np.float32] | None:
    """The checked table of ellipses for d dimensions, or None if there is none under the default key."""
    if ellipse_key not in adata.obsm and ellipse_key == ELLIPSE:
        return None
    if ellipse_key not in adata.obsm:
        msg = f"adata.obsm has no {ellipse_key!r}: run ipar.pp.cell_ellipses(adata, ..., key_added={ellipse_key!r}) first."
        raise KeyError(msg)
    table = plain_array(adata.obsm[ellipse_key], f"obsm[{ellipse_key!r}]").astype(np.float32)
    columns = ELLIPSE_COLUMNS[d]
    if table.shape != (adata.n_obs, len(columns)) or not np.isfinite(table).all() or (table[:, d : 2 * d] < 0).any():
        msg = (
            f"obsm[{ellipse_key!r}] must hold the finite columns {', '.join(columns)} for coordinates in {d} dimensions, "
            f"with standard deviations of at least 0, found shape {table.shape}: run ipar.pp.cell_ellipses(adata) again."
        )
        raise ValueError(msg)
    return table
