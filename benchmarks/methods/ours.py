"""ipar as it is documented: fit, place, and what is kept of the run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray

import ipar
from ipar.training import EncoderRecipe
from ipar.training.recipe import Quality

Placed = tuple[NDArray[np.floating], NDArray[np.floating], dict[str, Any]]
"""Coordinates, expected errors or the spread of samples, and what else is kept."""

PLAIN = EncoderRecipe(n_pcs=(30, 100), spatial_share=0.0, weigh_genes=False)  # principal components, all genes alike


def place_with_ipar(
    train: ad.AnnData,
    query: ad.AnnData,
    seed: int,
    *,
    quality: Quality = "best",
    flow: bool | None = None,
    plain: bool = False,
) -> Placed:
    """A documented quality, with its flow or without, or of plain components: fit, also where ipar refuses, and predict."""
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    with _verdict_kept():
        if plain:
            embed_plain(train, seed)
        model = ipar.tl.fit_ipalite(train, library_key="slide", quality=quality, flow=flow, force=True, **options)
        ipar.tl.predict_coords(query, model, **options)
    verdict = {k: float(v) for k, v in train.uns["ipar"]["localisability"].items() if k != "folds"}
    chosen = {"beta": model.network.beta, "global_weight": model.blend.global_map, **_chosen(train, model)}
    return query.obsm["X_ipar"], query.obs["ipar_uncertainty"].to_numpy(), {"localisability": verdict, "chosen": chosen}


def place_with_iga(train: ad.AnnData, query: ad.AnnData, seed: int, *, plain: bool = False) -> Placed:
    """The documented default, or of plain components: fit and sample; the mean of the samples, and their spread."""
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    with _verdict_kept():
        if plain:
            embed_plain(train, seed)
        model = ipar.tl.fit_iga(train, library_key="slide", **options)
        ipar.tl.sample_coords(query, model, **options)
    return query.obsm["X_ipar"], query.obs["ipar_uncertainty"].to_numpy(), {"chosen": _chosen(train, model)}


def embed_plain(train: ad.AnnData, seed: int) -> None:
    """The embedding of principal components alone, all genes alike, for a fit to find."""
    ipar.pp.embed(train, "slide", recipe=PLAIN, random_state=seed, progress=False)


PLACE: dict[str, Callable[[ad.AnnData, ad.AnnData, int], Placed]] = {
    "ipar": place_with_ipar,
    "ipar_no_flow": partial(place_with_ipar, flow=False),
    "ipar_default": partial(place_with_ipar, quality="default"),
    "ipar_fast": partial(place_with_ipar, quality="fast"),
    "iga": place_with_iga,
    "ipar_plain": partial(place_with_ipar, plain=True),
    "ipar_no_flow_plain": partial(place_with_ipar, flow=False, plain=True),
    "iga_plain": partial(place_with_iga, plain=True),
}


@contextmanager
def _verdict_kept() -> Iterator[None]:
    """Without the warning of a verdict, which is kept as a figure instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)
        yield


def _chosen(train: ad.AnnData, model: ipar.model.IPALite | ipar.model.IGA) -> dict[str, Any]:
    """What a fit chose on held-out slides."""
    table = train.uns["ipar"]["fit"]["finish"]
    return {
        "epochs": int(model.record["best_epoch"]) + 1,
        **model.encoder.record,
        "set_encoder_weight": model.encoder.set_encoder_weight,
        "sharpening": model.sharpening and asdict(model.sharpening),
        "finish": json.loads(table.to_json(orient="records", double_precision=4)),
    }
