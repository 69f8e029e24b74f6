"""Layouts of single cells where spots teach: a slide's cells, one half summed to spots, the other dissociated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

import own_neighbors
import tasks
from ipar._expression import Expression, get_expression
from ipar.graph import neighbor_average
from ipar.metrics import evaluate
from ipar.model import GeometryEncoder, Sharpening
from ipar.model.features import own_components
from ipar.model.sharpening import sharpen_layout
from ipar.training import EncoderRecipe
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import Layouts, overview_of, with_covariance_of, with_variance_of

SLIDE = own_neighbors.SLIDES["embryo1"]  # no task scores it
SEEDS = (0, 1, 2)
_CELLS_A_SPOT = 6  # few enough that some hundred spots teach
_SIZES = (5, 15)  # of pseudo-spots
_N_COMPONENTS = 30  # few cells teach
_SHARPENING = Sharpening(own=0.2)  # as left-out slides of spots choose mostly


def measure(seed: int, data: Path, scores: tuple[str, ...]) -> dict[str, Any]:
    """Scores of every layout, for one way to deal the cells into halves."""
    one = tasks.load(SLIDE, data)
    taught, asked = halves(one.query.n_obs, seed)
    found = {}
    for name, coords in layouts(one.query[taught].copy(), one.truth[taught], one.query[asked].copy(), seed):
        result = evaluate(one.truth[asked], coords, random_state=0)
        found[name] = {key: float(result[key]) for key in scores}
    return found


def halves(n: int, seed: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Two random halves of so many cells."""
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]


def layouts(known: ad.AnnData, coords: NDArray[np.float64], cells: ad.AnnData, seed: int) -> Layouts:
    """The overview of single cells by an encoder of spots, by how the cells are brought to it; then one of cells."""
    single, query = get_expression(known), get_expression(cells)
    spots = as_spots(single, coords)

    def fitted(slide: Slide) -> GeometryEncoder:
        recipe = replace(EncoderRecipe(), n_pcs=_N_COMPONENTS)
        return fit_encoder([slide], single.genes, ["both"], recipe, overview=True, random_state=seed)["both"]

    encoder = fitted(spots)
    yield from placed("spots teach", encoder, query, seed)
    turned = with_covariance_of(encoder, [spots], query)
    yield from placed("… components brought to those of the spots (CORAL)", turned, query, seed)
    yield from placed("… genes brought to the variance of the spots", encoder, with_variance_of([spots], query), seed)
    for size in _SIZES:
        name = f"… the cells as a pseudo-slide, each with {size - 1} like it"
        yield from placed(name, encoder, as_pseudo_spots(query, size), seed)
    own = fitted(Slide(single.matrix, coords.astype(np.float32), "cells"))
    yield from placed("single cells teach", own, query, seed)


def placed(name: str, encoder: GeometryEncoder, query: Expression, seed: int) -> Layouts:
    """The overview of a sample, and the same sharpened."""
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    h, far, across = encoder.views(query.matrix, query.genes, one)
    own = encoder.own_components(query.matrix, query.genes, one)
    layout = overview_of(across)
    yield name, layout
    yield f"{name}, sharpened", sharpen_layout(layout, h, far, _SHARPENING, components=own, random_state=seed)


def as_spots(cells: Expression, coords: NDArray[np.float64]) -> Slide:
    """A slide's cells in squares of a grid, each the mean of what it holds; of some six cells on average."""
    span = np.ptp(coords, axis=0)
    pitch = np.sqrt(span.prod() * _CELLS_A_SPOT / len(coords))
    square = np.floor((coords - coords.min(axis=0)) / pitch).astype(np.int64)
    _, spot = np.unique(square, axis=0, return_inverse=True)
    spot = spot.ravel()
    counts = np.bincount(spot)
    pool = sparse.csr_matrix((1.0 / counts[spot], (spot, np.arange(len(spot)))))
    return Slide(mean_expression(pool, cells.matrix), (pool @ coords).astype(np.float32), "spots")


def as_pseudo_spots(cells: Expression, size: int) -> Expression:
    """Every cell as the mean of itself and those most like it, about ``size`` in all: the noise of a spot."""
    own = own_components(cells.matrix, np.zeros(cells.matrix.shape[0], dtype=np.int64), _N_COMPONENTS, 0)
    return replace(cells, matrix=mean_expression(neighbor_average(own, None, size - 1), cells.matrix))


def mean_expression(weights: sparse.csr_matrix, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Weighted means of log-normalised expression, taken before the logarithm; rows of the weights sum to 1."""
    return sparse.csr_matrix((weights @ matrix.expm1()).log1p(), dtype=np.float32)
