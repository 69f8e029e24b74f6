"""Sets of places for cells on AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import COORDS, Keys, cells_digest, plain_array, record, region_keys, stored_record
from ipar._docs import shared_docs
from ipar._expression import Cells
from ipar._options import Key
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IGA, Features, IPALite
from ipar.model.regions import Regions, Source, checked_levels
from ipar.tl._cells import known_model, read_cells
from ipar.tl._predict import predict_coords
from ipar.tl._resemblance import QueryResemblance

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def predict_regions(
    adata: AnnData,
    model: IPALite | IGA | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.9),
    *,
    samples: Source | None = None,
    library_key: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    key_added: Key = COORDS,
    copy: bool = False,
) -> AnnData | None:
    """Predict, for each cell, a set of places that holds its true place with a given probability.

    The region of a cell is a union of balls around several places where it may lie. If these lie together, it is one patch.
    If they lie on both sides of a tissue, it has two islands. How large the balls are was measured on slides that the
    encoder had not seen. Coordinates of `adata` are not read.

    Parameters
    ----------
    adata
        Cells to place, log-normalised, as for :func:`predict_coords`. If it has no layout yet, that function is called first.
    %(model)s
    levels
        Shares of the cells of a slide whose true place should lie in their region, rising, each between 0 and 1.
    samples
        Where the places of a cell come from. ``"layout"``: the places of the cell itself and of the cells most similar to it
        in the embedding. ``"flow"``: samples of the flow, for tissues that look mirrored or repeated (default:
        ``"layout"``, or ``"flow"`` for an :class:`~ipar.IGA`).
    %(library_key)s
    %(layer)s
    %(gene_key)s
    %(run)s
    key_added
        Key of the layout in ``obsm``, and prefix of the other keys.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes, besides the layout if it is missing,

    ``.obsm["X_ipar_regions"]``
        K = 16 places per cell, float32, ``(n, 2 K)``. The two columns of a place stand side by side. They are in the frame of
        ``X_ipar``, in which each slide has an RMS radius of 1, also if there is ``X_ipar_reference``.
    ``.obsm["X_ipar_regions_radii"]``
        Radius of the balls for every level, float32, ``(n, n_levels)``.
    ``.uns["ipar"]["regions"]``
        ``"levels"``; ``"floors"``, the coverage that holds whatever the scores are; ``"n_places"`` and ``"samples"``;
        ``"held_out"``, ``"slides"`` or ``"blocks"`` of one section, with their names in ``"units"``; ``"key_added"``.

    Raises
    ------
    ValueError
        If there is no model, it has no such regions, levels are not usable, the layout in `adata` was made with other
        settings than the model's, or :func:`predict_coords` raises it.

    Warns
    -----
    LocalisabilityWarning
        If the model was trained on a tissue that cannot be localised, or that looks mirrored or repeated.

    Notes
    -----
    The method is split conformal prediction with samples. The score of a cell is the distance from its true place to the
    nearest of its places, over the square root of its expected error (over 1 for ``samples="flow"``). To compare them, the
    truth is centred, scaled to an RMS radius of 1, and turned or mirrored onto the layout. The radius is a quantile of the
    scores on left-out training slides, which count alike. Cells of one slide share its errors, slides are exchangeable.

    What holds: over many new slides like the training slides, a mean coverage near the level is expected. With S training
    slides, at least level · S / (S + 1) holds for exchangeable slides, whatever the scores are: 60 % for a level of 80 % and
    three slides. A single new slide may lie above or below its level. Three points are approximate: encoders of left-out
    slides saw fewer slides, only one left-out slide has a finished layout, by which the scores of the others are scaled, and
    the expected error was fitted on all. Parts of a single section share an animal and a batch: they promise less for another
    section. The flow is calibrated on one slide only.

    Of cells that do not resemble the training slides, the expected error grows, and the radius with it. Nothing is promised of
    them.

    The probability is over the cells of a slide. Regions of a rare cell type may hold fewer of its cells.

    References
    ----------
    Wang et al., Probabilistic conformal prediction, arXiv:2206.06584 (2022); Dunn, Wasserman & Ramdas, JASA 118 (2022), for
    slides as units; Lee, Barber & Willett, arXiv:2306.06342 (2023), for the bound.
    """
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    levels = checked_levels(levels)
    model, keys = known_model(adata, model, Keys(library_key, layer, gene_key))
    kind: Source = samples or ("flow" if isinstance(model, IGA) else "layout")
    regions = _known_regions(model, kind)
    if key_added in adata.obsm:
        _check_layout(adata, model, key_added)
        cells = read_cells(adata, model, keys)
    else:
        options: dict[str, Any] = {"key_added": key_added, "device": device, "progress": progress}
        predict_coords(adata, model, random_state=run.seed, **asdict(keys), **options)
        cells = Cells.read(adata, model, keys)
    layout = plain_array(adata.obsm[key_added], f"obsm[{key_added!r}]").astype(np.float32)
    with on_device(model.modules, run.device):
        found = _find(model, regions, kind, layout, cells, levels, run)
    _write(adata, regions, kind, found, levels, key_added)
    return adata if copy else None


@dataclass(frozen=True)
class _Found:
    """Places ``(n, 2 K)`` and radii ``(n, L)`` of cells of all slides; NaN for cells without a layout."""

    places: NDArray[np.float32]
    radii: NDArray[np.float32]


def _known_regions(model: IPALite | IGA, kind: Source) -> Regions:
    if model.regions is None:
        msg = (
            "The model has no regions: it was fitted in three dimensions, or by an older ipar. Fit it again with "
            "ipar.tl.fit_ipalite on slides with two coordinates."
        )
        raise ValueError(msg)
    model.regions.of(kind)
    return model.regions


def _check_layout(adata: AnnData, model: IPALite | IGA, key: str) -> None:
    """Raise ValueError if a stored layout is not one that the model's regions were measured for."""
    found = stored_record(adata, "prediction")
    wanted: dict[str, Any] = {
        "key_added": key,
        "n_cells": adata.n_obs,
        "cells_digest": cells_digest(adata),
        "sharpened": model.sharpening is not None,
    }
    if isinstance(model, IGA):
        wanted |= {"method": "samples", "point": "mean"}
    else:
        wanted |= {"global_weight": model.blend.global_map, "flow_weight": model.blend.flow}
    other = [name for name, value in wanted.items() if found.get(name) != value]
    if other or adata.obsm[key].shape != (adata.n_obs, 2):
        msg = (
            f"obsm[{key!r}] is not a layout of this model with its own settings (different: {', '.join(other) or 'shape'}): "
            f"call ipar.tl.predict_coords(adata, model, key_added={key!r}) first."
        )
        raise ValueError(msg)


def _find(
    model: IPALite | IGA,
    regions: Regions,
    kind: Source,
    layout: NDArray[np.float32],
    cells: Cells,
    levels: Sequence[float],
    run: Run,
) -> _Found:
    """Places and radii, slide by slide."""
    features, n, doubt = model.features(*cells.arrays), len(layout), QueryResemblance(model, cells)
    places = np.full((n, 2 * regions.n_places), np.nan, dtype=np.float32)
    radii = np.full((n, len(levels)), np.nan, dtype=np.float32)
    for rows in cells_by_slide(cells.labels, n):
        if not np.isfinite(layout[rows]).all():  # of a slide too small for a layout
            continue
        own, where = features.rows(rows), layout[rows]
        if kind == "flow":
            assert model.flow is not None  # there would be no calibration of it
            drawn = regions.drawn_places(where, own.embedding, model.flow, run)
        else:
            drawn = regions.like_places(where, own.embedding)
        places[rows] = drawn.reshape(len(rows), -1)
        expected = _expected_error(model, own)
        expected = None if expected is None else doubt.add("", rows, own, expected)
        radii[rows] = regions.radii(kind, levels, regions.scale(kind, expected, len(rows)))
    return _Found(places, radii)


def _expected_error(model: IPALite | IGA, features: Features) -> NDArray[np.float32] | None:
    """The expected error without samples of the flow, as it is known of every left-out slide."""
    if isinstance(model, IGA) or model.uncertainty is None:
        return None
    return model.uncertainty.expected_error(features)


def _write(
    adata: AnnData, regions: Regions, kind: Source, found: _Found, levels: tuple[float, ...], key_added: str
) -> None:
    calibration = regions.of(kind)
    adata.obsm[region_keys(key_added)[0]] = found.places
    adata.obsm[region_keys(key_added)[1]] = found.radii
    record(adata)["regions"] = {
        "levels": np.array(levels),
        "floors": np.array([calibration.floor(level) for level in levels]),
        "n_places": regions.n_places,
        "samples": kind,
        "held_out": "blocks" if regions.one_section else "slides",
        "units": np.array(calibration.units, dtype=object),
        "key_added": key_added,
    }
