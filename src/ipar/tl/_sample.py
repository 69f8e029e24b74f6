"""Sampling of tissue coordinates on AnnData."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import COORDS, EMBED, EMBED_RECORD, SAMPLES, get_slides, record, uncertainty_key
from ipar._expression import get_expression, warn_empty_cells
from ipar._run import Run, on_device
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IGA, Features, IPALite
from ipar.model.flow import Point
from ipar.tl._stored import stored_model, warn_unlocalisable

if TYPE_CHECKING:
    from anndata import AnnData


def sample_coords(
    adata: AnnData,
    model: IGA | IPALite | None = None,
    *,
    n_samples: int = 20,
    n_steps: int = 50,
    point: Point = "mean",
    sharpen: bool = True,
    library_key: str | None = None,
    layer: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    key_added: str = COORDS,
    copy: bool = False,
) -> AnnData | None:
    """Draw several layouts of cells from their expression.

    Every sample is one possible layout of all cells of a slide together. Where they agree, the place of a cell is certain;
    where a tissue repeats or mirrors itself, they show the alternatives. Samples are turned onto one another: only their
    shapes differ.

    No coordinates of ``adata`` are read. Time and memory are linear in the number of cells.

    Parameters
    ----------
    adata
        Cells to place: an unseen slide or dissociated cells, log-normalised, with at least half of the model's genes.
    model
        From :func:`fit_iga`, or from :func:`fit_ipalite` with its flow; the one that was fitted on this very AnnData, if None.
    n_samples
        Layouts per slide. 20 give uncertainties with a relative error of a sixth.
    n_steps
        Euler steps of each; 10 make rougher samples in a fifth of the time.
    point
        What becomes of them in ``X_ipar``: their ``"mean"``, which has the least error, or the ``"medoid"``, the sample
        nearest to all others. Where samples show several modes, the mean of a cell lies between them, in a place that no
        sample gives it: take the medoid.
    sharpen
        Draw cells of the mean together that are alike in the embedding and in the slide PCs, as far
        as the held-out training slide allowed it: more true neighbours, the same map. See
        :class:`ipar.model.Sharpening`. Samples, and with them the medoid, are never sharpened.
    library_key
        Column of ``obs`` that tells slides apart, which are placed one by one; all cells are one slide, if None. For the
        AnnData fitted on it is the column it was fitted with.
    layer
        Layer with log-normalised expression; ``X``, if None. For the AnnData fitted on it is the layer it was fitted on.
    random_state
        Seed of the samples. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show a progress bar.
    key_added
        Key of the coordinates in ``obsm``, and start of the others.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes, d being the dimensions of the model,

    ``.obsm["X_ipar"]``
        Coordinates, float32, ``(n, d)``, each slide centred with an RMS radius of 1.
    ``.obsm["X_ipar_samples"]``
        All samples, as they were drawn, in the frame of ``X_ipar``, float32, ``(n, n_samples · d)``, the d columns of a sample
        side by side.
    ``.obsm["X_ipar_ellipse"]``
        Ellipses of the medoid in that frame, in RMS radii, columns as :func:`ipar.pp.cell_ellipses` writes them.
    ``.obs["ipar_uncertainty"]``
        Root mean squared distance of a cell's samples from their mean (before it is sharpened), in RMS radii; 0 of a single
        sample. ``<key_added>_uncertainty`` for another key: what another layout has is left as it was.
    ``.obsm["X_ipar_embed"]``
        The embedding, where it is missing.
    ``.uns["ipar"]["prediction"]``
        Method, numbers of samples and steps, point, whether it was sharpened, seed, and the model's localisability.

    Raises
    ------
    TypeError
        If the model is an :class:`~ipar.IPALite` that was fitted without a flow, and has one answer only.
    ValueError
        If no model is given or stored, genes do not match, a slide has fewer than five cells, or a setting is not possible.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised.
    """
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    if point not in get_args(Point):
        msg = f"point must be one of {get_args(Point)}, found {point!r}."
        raise ValueError(msg)
    if model is None:
        model, library_key = stored_model(adata, library_key)
        layer = layer or adata.uns.get(EMBED_RECORD, {}).get("layer")
    generative = _generative(model)
    generative = generative if sharpen and point == "mean" else replace(generative, sharpening=None)
    expression = get_expression(adata, layer=layer)
    warn_empty_cells(expression)
    labels = get_slides(adata, library_key)
    warn_unlocalisable(generative.record)
    with on_device(generative.modules, run.device):
        features = generative.encoder.features(expression.matrix, expression.genes, labels)
        slide_pcs = None
        if generative.sharpening is not None:
            slide_pcs = generative.encoder.slide_pcs(expression.matrix, expression.genes, labels)
        found = _draw(generative, features, slide_pcs, labels, (n_samples, n_steps, point), run)
    _write(adata, found, features, key_added)
    record(adata)["prediction"] = {
        "method": "samples",
        "n_samples": n_samples,
        "n_steps": n_steps,
        "point": point,
        "sharpened": generative.sharpening is not None,
        "n_cells": adata.n_obs,
        "key_added": key_added,
        "random_state": run.seed,
        "localisable": bool(generative.record.get("localisability", {}).get("localisable", True)),
    } | ({"library_key": library_key} if library_key else {})
    return adata if copy else None


@dataclass(frozen=True)
class _Drawn:
    """Cells of all slides: the layout, its samples, ellipses and spread."""

    coords: NDArray[np.float32]
    samples: NDArray[np.float32]
    ellipses: NDArray[np.float32]
    spread: NDArray[np.float32]


def _draw(
    model: IGA,
    features: Features,
    slide_pcs: NDArray[np.float32] | None,
    labels: pd.Categorical,
    how: tuple[int, int, Point],
    run: Run,
) -> _Drawn:
    (n_samples, n_steps, point), n, d = how, len(labels), model.flow.net.config.n_dims
    coords, samples, ellipses = (
        np.empty((n, width), dtype=np.float32) for width in (d, max(n_samples, 0) * d, 5 if d == 2 else 9)
    )
    found = _Drawn(coords, samples, ellipses, np.empty(n, dtype=np.float32))
    for cells in cells_by_slide(labels, len(labels)):
        own = features.rows(cells)
        drawn = model.flow.sample(own.embedding, n_samples, n_steps=n_steps, run=run)
        pcs = None if slide_pcs is None else slide_pcs[cells]
        found.coords[cells] = model.sharpened(drawn.point(point), own, pcs, run)
        found.spread[cells] = drawn.uncertainty
        found.samples[cells] = drawn.coords.transpose(1, 0, 2).reshape(len(cells), -1)
        found.ellipses[cells] = drawn.ellipses[drawn.medoid]
    return found


def _write(adata: AnnData, found: _Drawn, features: Features, key_added: str) -> None:
    adata.obsm[key_added] = found.coords
    adata.obsm[SAMPLES if key_added == COORDS else f"{key_added}_samples"] = found.samples
    adata.obsm[f"{key_added}_ellipse"] = found.ellipses
    adata.obs[uncertainty_key(key_added)] = found.spread
    if EMBED not in adata.obsm or EMBED_RECORD not in adata.uns:
        adata.obsm[EMBED] = features.embedding


def _generative(model: IGA | IPALite) -> IGA:
    """The model that samples are drawn from; what IPA-Lite knows of the tissue and of sharpening holds for its flow too."""
    if isinstance(model, IGA):
        return model
    if model.flow is None:
        msg = (
            "An IPALite model without a flow has one answer and no samples: use ipar.tl.predict_coords, or fit one with "
            "ipar.tl.fit_ipalite(adata, ..., flow=True) or ipar.tl.fit_iga."
        )
        raise TypeError(msg)
    verdict = {"localisability": model.record.get("localisability", {})}
    return IGA(model.encoder, model.flow, model.sharpening, verdict)
