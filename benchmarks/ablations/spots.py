"""Layouts of single cells where spots teach: a slide's cells, one half summed to spots, the other dissociated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from benchmarks.ablations.encoder import with_covariance_of, with_variance_of
from benchmarks.ablations.fits import Layouts, fit, map_and_sharpened, read
from benchmarks.tasks.tasks import Slides
from ipar.graph.averages import neighbor_average
from ipar.model.slide_pcs import SlidePCs
from ipar.training import EncoderRecipe, SlideSet
from ipar.training.slides import Slide

_CELLS_PER_SPOT = 6  # few enough that some hundred spots teach
_SIZES = (5, 15)  # of pseudo-spots
_N_COMPONENTS = 30
RECIPE = EncoderRecipe(n_pcs=_N_COMPONENTS)  # few cells teach


def layouts(slides: Slides, seed: int, recipe: EncoderRecipe = RECIPE) -> Layouts:
    """The global map of single cells by an encoder of spots, by how they are brought to it; then by one of cells."""
    known, query = read(slides)
    spots = as_spots(known[0])
    encoder = fit(SlideSet((spots,), known.genes), recipe, seed)
    yield from map_and_sharpened("spots teach", encoder, query)
    turned = with_covariance_of(encoder, [spots], query)
    yield from map_and_sharpened("… components brought to those of the spots (CORAL)", turned, query)
    alike = with_variance_of([spots], query)
    yield from map_and_sharpened("… genes brought to the variance of the spots", encoder, alike)
    for size in _SIZES:
        name = f"… the cells as a pseudo-slide, each with {size - 1} like it"
        yield from map_and_sharpened(name, encoder, as_pseudo_spots(query, size))
    yield from map_and_sharpened("single cells teach", fit(known, recipe, seed), query)


def as_spots(cells: Slide) -> Slide:
    """A slide's cells in squares of a grid, each the mean of what it holds; of some six cells on average."""
    coords = cells.coords.astype(np.float64)
    pitch = np.sqrt(np.ptp(coords, axis=0).prod() * _CELLS_PER_SPOT / len(coords))
    square = np.floor((coords - coords.min(axis=0)) / pitch).astype(np.int64)
    spot = np.unique(square, axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(spot)
    pool = sparse.csr_matrix((1.0 / counts[spot], (spot, np.arange(len(spot)))))
    return Slide(mean_expression(pool, cells.expression), (pool @ coords).astype(np.float32), "spots")


def as_pseudo_spots(cells: Slide, size: int) -> Slide:
    """Every cell as the mean of itself and those most like it, about ``size`` in all: the noise of a spot."""
    own = SlidePCs(_N_COMPONENTS, 0).of(cells.expression, np.zeros(len(cells), dtype=np.int64))
    return replace(cells, expression=mean_expression(neighbor_average(own, None, size - 1), cells.expression))


def mean_expression(weights: sparse.csr_matrix, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Weighted means of log-normalised expression, taken before the logarithm; rows of the weights sum to 1."""
    return sparse.csr_matrix((weights @ matrix.expm1()).log1p(), dtype=np.float32)
