"""Sampling of tissue coordinates on AnnData."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import BELONGS, COORDS, SAMPLES, Keys, check_key_added, uncertainty_key
from ipar._docs import shared_docs
from ipar._expression import Cells, check_cells
from ipar._options import Count, Key
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar.model import IGA, IPALite
from ipar.model.flow import MIN_CELLS, Point
from ipar.tl._cells import known_model, read_cells, write_embedding, write_prediction
from ipar.tl._resemblance import QueryResemblance, Resembles

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def sample_coords(
    adata: AnnData,
    model: IGA | IPALite | None = None,
    *,
    n_samples: Count = 20,
    n_steps: Count = 50,
    point: Point = "mean",
    sharpen: bool = True,
    library_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    key_added: Key = COORDS,
    copy: bool = False,
) -> AnnData | None:
    """Draw several possible layouts of cells from their expression.

    Each sample is a layout of all cells of a slide together. Where samples agree, the place of a cell is certain. Where a
    tissue repeats or mirrors itself, they show the alternatives. Coordinates of `adata` are not read. Time and memory are
    linear in the number of cells.

    Parameters
    ----------
    adata
        Cells to place, log-normalised, with at least half of the model's genes: a new slide, or dissociated cells.
    model
        Model from :func:`fit_iga`, or from :func:`fit_ipalite` with a flow (default: the model fitted on this AnnData).
    n_samples
        Layouts per slide. With 20, uncertainties have a relative error of about one sixth.
    n_steps
        Euler steps per sample. With 10, samples are rougher and take a fifth of the time.
    point
        Coordinates to store: the ``"mean"`` of the samples, or the ``"medoid"``, which is nearest to all others.
    sharpen
        Draw together cells with similar expression in the mean, see :class:`ipar.model.Sharpening`.
    %(library_key)s
    %(layer)s
    %(gene_key)s
    %(run)s
    key_added
        Key of the coordinates in ``obsm``, and prefix of the other keys.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes, for d dimensions,

    ``.obsm["X_ipar"]``
        Coordinates, float32, ``(n, d)``. Each slide is centred and has an RMS radius of 1.
    ``.obsm["X_ipar_samples"]``
        All samples, aligned with ``X_ipar``, float32, ``(n, n_samples · d)``. The d columns of a sample stand side by side.
    ``.obsm["X_ipar_ellipse"]``
        Ellipses of the medoid in that frame, in RMS radii, with the columns of :func:`ipar.pp.cell_ellipses`.
    ``.obs["ipar_belongs"]``, ``.uns["ipar"]["prediction"]["resembles_training"]``
        As from :func:`predict_coords`; in two dimensions.
    ``.obs["ipar_uncertainty"]``
        Root mean squared distance of a cell's samples from their mean, in RMS radii. The column is
        ``<key_added>_uncertainty`` for another key.
    ``.obsm["X_ipar_embed"]``
        Embedding, unless that of the model's training is there. One of another model is replaced.
    ``.uns["ipar"]["prediction"]``
        Method, settings and seed, and whether the model's tissue can be localised.

    Raises
    ------
    TypeError
        If the model is an :class:`~ipar.IPALite` without a flow.
    ValueError
        If there is no model, genes do not match, a slide has fewer than five cells, or a setting is not usable.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised, or that looks mirrored or repeated.
    ResemblanceWarning
        If cells of a slide do not resemble the training slides.

    Notes
    -----
    The mean has the smallest error. If samples of a cell form several groups, the mean lies between them, in a place that
    no sample gives it; use the medoid then. Samples and medoid are never sharpened.

    Samples are rotated and reflected onto one another, so that only their shapes differ.

    Without `model`, `library_key`, `layer` and `gene_key` default to those of the fit.
    """
    check_key_added(adata, key_added)
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    model, keys = known_model(adata, model, Keys(library_key, layer, gene_key))
    generative = _generative(model, sharpened=sharpen and point == "mean")
    cells = read_cells(adata, generative, keys)
    with on_device(generative.modules, run.device):
        found = _draw(generative, cells, n_samples, n_steps, point, run)
    _write(adata, generative, found, key_added)
    settings: dict[str, Any] = {"method": "samples", "n_samples": n_samples, "n_steps": n_steps, "point": point}
    if found.resemblance is not None:
        settings["resembles_training"] = found.resemblance.record
    write_prediction(adata, generative, cells, key_added, run, settings)
    return adata if copy else None


@dataclass(frozen=True)
class _Drawn:
    """Cells of all slides: embedding, layout, samples, ellipses and spread."""

    embedding: NDArray[np.float32]
    coords: NDArray[np.float32]
    samples: NDArray[np.float32]
    ellipses: NDArray[np.float32]
    spread: NDArray[np.float32]
    resemblance: Resembles | None


def _draw(model: IGA, cells: Cells, n_samples: int, n_steps: int, point: Point, run: Run) -> _Drawn:
    check_cells(cells, MIN_CELLS, "use ipar.tl.predict_coords with `reference`")
    cells = cells.known_to(model)  # once for all that follows
    features = model.features(*cells.arrays)
    slide_pcs = None if model.sharpening is None else model.encoder.slide_pcs(*cells.arrays)
    n, d = len(cells.labels), model.flow.net.config.n_dims
    widths = (d, max(n_samples, 0) * d, 5 if d == 2 else 9)
    coords, samples, ellipses = (np.empty((n, width), dtype=np.float32) for width in widths)
    spread, resemble = np.empty(n, dtype=np.float32), QueryResemblance(model, cells)
    for name, rows in features.of_slides(cells.labels):
        own = features.rows(rows)
        resemble.add(name, rows, own, np.ones(len(rows), dtype=np.float32))  # the spread is no expected error
        drawn = model.flow.sample(own.embedding, n_samples, n_steps=n_steps, run=run)
        coords[rows] = model.sharpened(drawn.point(point), own, None if slide_pcs is None else slide_pcs[rows], run)
        spread[rows] = drawn.uncertainty
        samples[rows] = drawn.coords.transpose(1, 0, 2).reshape(len(rows), -1)
        ellipses[rows] = drawn.ellipses[drawn.medoid]
    return _Drawn(features.embedding, coords, samples, ellipses, spread, resemble.found())


def _write(adata: AnnData, model: IGA, found: _Drawn, key_added: str) -> None:
    adata.obsm[key_added] = found.coords
    adata.obsm[SAMPLES if key_added == COORDS else f"{key_added}_samples"] = found.samples
    adata.obsm[f"{key_added}_ellipse"] = found.ellipses
    adata.obs[uncertainty_key(key_added)] = found.spread
    if BELONGS in adata.obs:
        del adata.obs[BELONGS]
    if found.resemblance is not None:
        adata.obs[BELONGS] = found.resemblance.belongs
    write_embedding(adata, model, found.embedding)


def _generative(model: IGA | IPALite, *, sharpened: bool) -> IGA:
    """The model that samples are drawn from: for IPA-Lite its flow, with what the model knows of tissue and sharpening."""
    if isinstance(model, IPALite):
        if model.flow is None:
            msg = (
                "model must have a flow to draw samples from, found an IPALite model without one: use "
                "ipar.tl.predict_coords, or fit a model with ipar.tl.fit_ipalite(adata, ..., flow=True) or ipar.tl.fit_iga."
            )
            raise TypeError(msg)
        told: dict[str, Any] = {
            name: model.record[name] for name in ("localisability", "library_key") if name in model.record
        }
        known = {name: getattr(model, name) for name in ("sharpening", "scale", "resemblance")}
        model = IGA(model.encoder, model.flow, **known, record=told)
    return model if sharpened else replace(model, sharpening=None)
