"""The global map of a held-out section, by what the encoder reads and by what its query is brought to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from benchmarks.ablations.fits import Layouts, blended, fit, map_of, read
from benchmarks.methods.controls import CONTROLS
from benchmarks.tasks.tasks import Slides
from ipar.model import GeometryEncoder
from ipar.model.blend import global_map
from ipar.model.features import Averaging
from ipar.training import EncoderRecipe, Run
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide

_MORE_SEEDS = (101, 102, 103)
_SCALE_MAX = 3.0  # a gene that hardly varies on one side is not blown up
RECIPE = EncoderRecipe()


def layouts(slides: Slides, seed: int, recipe: EncoderRecipe = RECIPE) -> Layouts:
    """The embedding's own layout by its inputs; brought to the training slides; in the mean with others."""
    known, query = read(slides)
    found = fit_encoder(known, ["pca", "genes", "both"], recipe, Run(seed), set_encoder=True)
    plain = replace(recipe, averaging=Averaging(n_hops=0))
    blind = {name: map_of(replace(one, set_encoder=None), query) for name, one in found.items()}
    yield "embedding of components alone", map_of(fit_encoder(known, ["pca"], plain, Run(seed))["pca"], query)
    yield "… read with the average over like cells", blind["pca"]
    yield "embedding of genes", blind["genes"]
    yield "embedding of both", blind["both"]
    both, covariance, variance = found["both"], "the covariance of the training slides (CORAL)", "the training slides"
    usual = map_of(both, query)
    yield "… and the set encoder", usual
    yield f"… its components brought to {covariance}", map_of(with_covariance_of(both, list(known), query), query)
    yield f"… its genes brought to the variance of {variance}", map_of(both, with_variance_of(list(known), query))
    encoders = [both, *(fit(known, recipe, one) for one in _MORE_SEEDS)]
    together = np.concatenate([embed_slide(one, query).global_features for one in encoders], axis=1)
    yield "… four of them, of four seeds", global_map(together).numpy()
    transformer = CONTROLS["set_transformer"](slides.train, slides.query, seed)
    yield "… in the mean with a set transformer's layout", blended(transformer, usual, 0.5)


def with_covariance_of(encoder: GeometryEncoder, slides: Sequence[Slide], query: Slide) -> GeometryEncoder:
    """The encoder for a query whose components then have the covariance of the slides (Sun et al., 2016)."""
    own, known = components_of(encoder, [query]), components_of(encoder, slides)
    turned = encoder.loadings @ power_of_covariance(own, -0.5) @ power_of_covariance(known, 0.5)
    return replace(encoder, loadings=turned.astype(np.float32))


def components_of(encoder: GeometryEncoder, slides: Sequence[Slide]) -> NDArray[np.float32]:
    """Components of the cells of slides, centred within each."""
    found = [slide.expression @ encoder.loadings for slide in slides]
    return np.concatenate([x - x.mean(axis=0) for x in found])


def power_of_covariance(x: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """A power of the covariance of centred rows, a thousandth of the mean variance added."""
    covariance = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(x.shape[1]))
    whole: NDArray[np.float32] = (vectors * values**power) @ vectors.T
    return whole


def with_variance_of(slides: Sequence[Slide], query: Slide) -> Slide:
    """A query whose genes have the standard deviations that they have within the slides."""
    variances = [mean_variance_axis(slide.expression, axis=0)[1] for slide in slides]
    known = np.sqrt(np.average(variances, axis=0, weights=[len(slide) for slide in slides]))
    own = np.sqrt(mean_variance_axis(query.expression, axis=0)[1])
    scale = np.clip(known / np.maximum(own, 1e-12), 1 / _SCALE_MAX, _SCALE_MAX)
    scaled = sparse.csr_matrix(query.expression @ sparse.diags_array(scale, dtype=np.float32))
    return replace(query, expression=scaled)
