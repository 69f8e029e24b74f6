"""What the rows of the matrix share: one tiny fitted model, cells to place, and cells that were placed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

import ipar
from ipar.model import IPALite


@dataclass(frozen=True)
class World:
    """Rows take copies of these, and files are only read.

    Attributes
    ----------
    slides
        Three training slides as a user brings them.
    train
        The same with the records of a fit and of measurements.
    query
        Cells of a fourth slide.
    placed
        The same with all results.
    model
        The model, with a flow.
    folder
        ``slides.h5ad``, ``query.h5ad``, ``placed.h5ad`` and the model in ``model``.
    """

    slides: ad.AnnData
    train: ad.AnnData
    query: ad.AnnData
    placed: ad.AnnData
    model: IPALite
    folder: Path

    def pair(self) -> dict[str, np.ndarray]:
        """Coordinates of 60 cells and a layout of them."""
        rng = np.random.default_rng(0)
        true = rng.normal(size=(60, 2))
        return {"true": true, "pred": true + 0.3 * rng.normal(size=(60, 2))}


def make_world(simulate: Callable[..., ad.AnnData], recipe: Any, folder: Path) -> World:
    """Fit once, place once, and measure once."""
    slides, query = simulate(), simulate(("d",), seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    for one in (slides, query):
        one.obs["type"] = pd.Categorical(np.where(np.arange(one.n_obs) % 3 == 0, "p", "q"))
    query.obs["number"] = 1
    train, placed = slides.copy(), query.copy()
    recipe = replace(recipe, network=dataclasses.replace(recipe.network, refit=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ipar.tl.fit_ipalite(train, "slide", recipe=recipe, max_epochs=2, progress=False)
        ipar.tl.predict_coords(placed, model, reference="a", progress=False)
        ipar.tl.sample_coords(placed, model, n_samples=3, n_steps=3, key_added="X_drawn", progress=False)
        ipar.tl.predict_coords(placed, model, reference="a", progress=False)
        ipar.tl.predict_regions(placed, model, progress=False)
        ipar.tl.map_to_reference(placed, model, reference="a", progress=False)
        ipar.pp.cell_ellipses(placed)
        small = {"n_minisets": 2, "miniset_size": (48, 60), "progress": False}
        ipar.tl.attention_diagnostics(placed, model, **small)
        ipar.tl.decompose_gap(placed, model, **small)
        placed.uns["ipar"] |= {name: train.uns["ipar"][name] for name in ("history", "history_best", "localisability")}
    for name, one in (("slides", slides), ("query", query), ("placed", placed)):
        one.write_h5ad(folder / f"{name}.h5ad")
    model.save(folder / "model")
    return World(slides, train, query, placed, model, folder)
