"""What prediction takes from an AnnData that a model was fitted on, what it warns of, and what it records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import (
    CANDIDATES,
    EMBED,
    RECORD,
    Keys,
    cells_digest,
    embed_record,
    forget_encoder,
    record,
    region_keys,
    stored_record,
    warn,
)
from ipar._expression import Cells
from ipar.model import IGA, IPALite
from ipar.model.loading import model_of_plain
from ipar.pp import LocalisabilityWarning
from ipar.training.localise import repeated_message

if TYPE_CHECKING:
    from anndata import AnnData

    from ipar._run import Run


def known_model(adata: AnnData, model: IPALite | IGA | None, keys: Keys) -> tuple[IPALite | IGA, Keys]:
    """The model that was given, or that of an AnnData's own fit with the slides, the layer and the names of the fit."""
    if model is not None:
        return model, keys
    state = stored_record(adata).get("model")
    if state is None:
        msg = (
            "No model given, and none was fitted on this AnnData: pass one as model, from ipar.tl.fit_ipalite(slides, "
            "library_key=...) or ipar.load(directory)."
        )
        raise ValueError(msg)
    model = model_of_plain(state, "The model in adata.uns['ipar']['model']")
    fitted_key = model.record.get("library_key")
    library_key = keys.library_key or (fitted_key if fitted_key in adata.obs else None)
    found = embed_record(adata)
    return model, Keys(library_key, keys.layer or found.get("layer"), keys.gene_key or found.get("gene_key"))


def known_ipalite(adata: AnnData, model: IPALite | None, keys: Keys) -> tuple[IPALite, Keys]:
    """As :func:`known_model`, for functions that need an IPA-Lite model."""
    found, keys = known_model(adata, model, keys)
    if not isinstance(found, IPALite):
        msg = f"model must be an IPALite, found {type(found).__name__}: pass one from ipar.tl.fit_ipalite as model."
        raise TypeError(msg)
    return found, keys


def _warn_forgotten_slides(adata: AnnData, model: IPALite | IGA, keys: Keys) -> None:
    """Warn if cells of several slides are taken for one section."""
    column = model.record.get("library_key")
    if keys.library_key is not None or column not in adata.obs:
        return
    n_slides = int(adata.obs[column].nunique())
    if n_slides > 1:
        warn(
            f"All cells are placed as one section, but obs[{column!r}], by which the model's training slides were told apart, has "
            f"{n_slides} values: pass library_key={column!r} to place each slide by itself."
        )


def read_cells(adata: AnnData, model: IPALite | IGA, keys: Keys) -> Cells:
    """Cells to place; warns where coordinates would mean nothing."""
    cells = Cells.read(adata, model, keys)
    n_columns = len(cells.genes)
    if model.encoder.use_rep is not None and n_columns != model.encoder.n_output:
        msg = (
            f"The model was fitted on obsm[{model.encoder.use_rep!r}] of {model.encoder.n_output} columns, found {n_columns}: "
            "embed the cells as the training slides."
        )
        raise ValueError(msg)
    _warn_forgotten_slides(adata, model, keys)
    verdict = model.record.get("localisability", {})
    if not verdict.get("localisable", True):
        warn(
            "The model was trained on a tissue that cannot be localised from expression (on held-out slides, the embedding "
            f"explains {verdict['explained']:.0%} of the variance of positions, distances correlate at "
            f"{verdict['distance_spearman']:.2f}, candidates hold {verdict['recall_ratio']:.1f} times as many true "
            "neighbours as chance): these coordinates mean nothing.",
            LocalisabilityWarning,
        )
    elif verdict.get("repeated", False):
        warn(
            "The model was trained on a tissue with parts that cannot be told apart. "
            f"{repeated_message(verdict['two_places'])}",
            LocalisabilityWarning,
        )
    return cells


def write_embedding(adata: AnnData, model: IPALite | IGA, embedding: NDArray[np.float32]) -> bool:
    """Write the embedding of a model, unless that of its training is there; tells whether it was written.

    What belongs to another embedding in its place goes: record, global features and graph.
    """
    if EMBED in adata.obsm and _embedded_by(adata, model):
        return False
    adata.obsm[EMBED] = embedding
    forget_encoder(adata)
    known = adata.uns.get(CANDIDATES)
    if isinstance(known, Mapping) and known.get("params", {}).get("use_rep") == EMBED:
        graph = adata.uns.pop(CANDIDATES)
        for name in ("connectivities_key", "distances_key"):
            adata.obsp.pop(graph.get(name), None)
    return True


def _embedded_by(adata: AnnData, model: IPALite | IGA) -> bool:
    """Whether the stored embedding is that of the training of a model's encoder."""
    stored = embed_record(adata)
    if stored.get("use_rep") != EMBED or "encoder" not in stored:
        return False
    own, known = model.encoder.state()[1], stored["encoder"]["arrays"]
    return own.keys() == known.keys() and all(np.array_equal(own[name], known[name]) for name in own)


def cells_of_record(adata: AnnData) -> str | None:
    """What must be said of the cells that a prediction was recorded of, if they are not those of the AnnData."""
    found = stored_record(adata, "prediction")
    n = int(found.get("n_cells", adata.n_obs))
    if n == adata.n_obs and found.get("cells_digest", cells_digest(adata)) == cells_digest(adata):
        return None
    return (
        f"The prediction was made of {n} cells, and adata has {adata.n_obs}, not the same ones: figures of slides are those of "
        "the prediction. Run ipar.tl.predict_coords again for figures of these cells."
    )


def write_prediction(
    adata: AnnData, model: IPALite | IGA, cells: Cells, key_added: str, run: Run, settings: dict[str, Any]
) -> None:
    """Record what a layout was made with, and forget regions of the one that it replaced."""
    if record(adata).get("regions", {}).get("key_added") == key_added:
        del adata.uns[RECORD]["regions"]
    for key in region_keys(key_added):
        adata.obsm.pop(key, None)
    record(adata)["prediction"] = {
        **settings,
        "sharpened": model.sharpening is not None,
        "n_cells": adata.n_obs,
        "cells_digest": cells_digest(adata),
        "slides": _slide_sizes(cells),
        "n_genes": int(model.encoder.genes.isin(cells.genes).sum()),
        "key_added": key_added,
        "random_state": run.seed,
        "localisable": bool(model.record.get("localisability", {}).get("localisable", True)),
    } | ({"library_key": cells.library_key} if cells.library_key else {})


def _slide_sizes(cells: Cells) -> dict[str, NDArray[Any]]:
    names = np.array([str(name) for name in cells.labels.categories], dtype=object)
    return {"slide": names, "n_cells": np.bincount(cells.labels.codes, minlength=len(names))}
