"""Layouts of a left-out section, by what is left out of ipar or added to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

import controls
import ipar
import tasks
from ipar._expression import Expression, get_expression
from ipar._steps import FEW_CELLS
from ipar.model import GeometryEncoder, Sharpening
from ipar.model.consensus import blend_layouts, principal_layout
from ipar.model.encoder import Averaging
from ipar.model.sharpening import sharpen_layout
from ipar.pp._embed import split_slides
from ipar.training import EncoderRecipe
from ipar.training.encoder import Slide, fit_encoder

Layouts = Iterator[tuple[str, Any]]
PLAIN = Averaging(n_hops=0)
_MORE_SEEDS = (101, 102, 103)
_SCALE_MAX = 3.0  # a gene that hardly varies on one side is not blown up


def overview_of(far: NDArray[np.float32]) -> NDArray[np.float32]:
    """The layout of what was taught distances across the tissue."""
    layout: NDArray[np.float32] = principal_layout(torch.from_numpy(np.ascontiguousarray(far))).numpy()
    return layout


def slides_of(adata: ad.AnnData, expression: Expression) -> list[Slide]:
    """Training slides, apart."""
    coords = np.asarray(adata.obsm["spatial"], dtype=np.float32)
    return split_slides(expression, coords, pd.Categorical(adata.obs["slide"]))


def far_of(encoder: GeometryEncoder, query: Expression) -> NDArray[np.float32]:
    """What tells distances across the tissue, of a sample of one slide."""
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    return encoder.views(query.matrix, query.genes, one).across


def layouts_of_encoders(slides: tasks.Slides, seed: int) -> Layouts:
    """The embedding's own layout, by what the encoder reads; adapted to the query; in the mean with others."""
    train, query = get_expression(slides.train), get_expression(slides.query)
    parts = slides_of(slides.train, train)
    recipe = EncoderRecipe()
    found = fit_encoder(parts, train.genes, ["pca", "genes", "both"], recipe, overview=True, random_state=seed)
    alone = fit_encoder(parts, train.genes, ["pca"], replace(recipe, averaging=PLAIN), random_state=seed)
    blind = {name: overview_of(far_of(replace(one, overview=None), query)) for name, one in found.items()}
    yield "embedding of components alone", overview_of(far_of(alone["pca"], query))
    yield "… read with the average over like cells", blind["pca"]
    yield "embedding of genes", blind["genes"]
    yield "embedding of both", blind["both"]
    both = found["both"]
    far = far_of(both, query)
    yield "… and the set encoder", overview_of(far)
    yield (
        "… its components brought to the covariance of the training slides (CORAL)",
        overview_of(far_of(with_covariance_of(both, parts, query), query)),
    )
    yield (
        "… its genes brought to the variance of the training slides",
        overview_of(far_of(both, with_variance_of(parts, query))),
    )
    more = (fit_encoder(parts, train.genes, ["both"], recipe, overview=True, random_state=s) for s in _MORE_SEEDS)
    yield (
        "… four of them, of four seeds",
        overview_of(np.concatenate([far, *(far_of(one["both"], query) for one in more)], axis=1)),
    )
    transformer = controls.CONTROLS["set_transformer"](slides.train, slides.query, seed)
    mean = blend_layouts(torch.from_numpy(transformer)[None].float(), torch.from_numpy(overview_of(far)), 0.5)[0]
    yield "… in the mean with a set transformer's layout", mean.numpy()


def layouts_of_sketches(slides: tasks.Slides, seed: int) -> Layouts:
    """The overview without the sketch and with it, the sketch alone, and the overview sharpened, by how many teach."""
    train, query = get_expression(slides.train), get_expression(slides.query)
    parts = slides_of(slides.train, train)
    sizes = EncoderRecipe().sizes
    many = sum(part.expression.shape[0] for part in parts) > FEW_CELLS
    recipe = replace(EncoderRecipe(), n_pcs=sizes[-1] if many else sizes[0])  # as left-out slides have them mostly
    fitted = fit_encoder(parts, train.genes, ["both"], recipe, overview=True, sketch=True, random_state=seed)["both"]
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    h, far, across = fitted.views(query.matrix, query.genes, one)
    own = fitted.own_components(query.matrix, query.genes, one)
    teach = f"{len(parts)} sections teach:"
    blind, whole = overview_of(far), overview_of(across)
    yield f"{teach} embedding and set encoder", blind
    yield f"{teach} … and the sketch", whole
    yield f"{teach} the sketch alone", overview_of(across[:, -2:])
    for name, start, held in (
        ("embedding and set encoder, sharpened", blind, far),
        ("… and the sketch, sharpened, its distances not among those held", whole, far),
        ("… and the sketch, sharpened, its distances among those held", whole, across),
    ):
        yield f"{teach} {name}", sharpen_layout(start, h, held, Sharpening(own=0.2), components=own, random_state=seed)


def with_covariance_of(encoder: GeometryEncoder, slides: list[Slide], query: Expression) -> GeometryEncoder:
    """The encoder for a query whose components then have the covariance of the training slides (Sun et al., 2016)."""
    matrix, _ = encoder.match(query.matrix, query.genes)
    own = centred(matrix @ encoder.loadings)
    known = np.concatenate([centred(slide.expression @ encoder.loadings) for slide in slides])
    turned = encoder.loadings @ power_of_covariance(own, -0.5) @ power_of_covariance(known, 0.5)
    return replace(encoder, loadings=turned.astype(np.float32))


def centred(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without its mean."""
    return x - x.mean(axis=0)


def power_of_covariance(x: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """A power of the covariance of centred rows, a thousandth of the mean variance added."""
    covariance = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(x.shape[1]))
    whole: NDArray[np.float32] = (vectors * values**power) @ vectors.T
    return whole


def with_variance_of(slides: list[Slide], query: Expression) -> Expression:
    """A query whose genes have the standard deviations that they have within training slides."""
    counts = np.array([slide.expression.shape[0] for slide in slides])
    known = np.sqrt(
        np.average([mean_variance_axis(slide.expression, axis=0)[1] for slide in slides], axis=0, weights=counts)
    )
    own = np.sqrt(mean_variance_axis(query.matrix, axis=0)[1])
    scale = np.clip(known / np.maximum(own, 1e-12), 1 / _SCALE_MAX, _SCALE_MAX)
    return replace(query, matrix=sparse.csr_matrix(query.matrix @ sparse.diags_array(scale, dtype=np.float32)))


def layouts_of_steps(slides: tasks.Slides, seed: int) -> Layouts:
    """Steps after the embedding, all of one fit."""
    model = ipar.tl.fit_ipalite(slides.train.copy(), library_key="slide", random_state=seed, progress=False)

    def placed(weight: float | None, sharpening: Sharpening | None) -> Any:
        query = slides.query.copy()
        one = replace(model, sharpening=sharpening)
        ipar.tl.predict_coords(query, one, global_weight=weight, random_state=seed, progress=False)
        return query.obsm["X_ipar"]

    chosen = model.sharpening or Sharpening()
    yield "network alone", placed(0.0, None)
    yield "mean of network and overview", placed(None, None)
    yield "… sharpened (the default, as chosen on a left-out training slide)", placed(None, model.sharpening)
    yield "… sharpened with a weak push (ρ = 1)", placed(None, replace(chosen, push=1.0))
    yield "… sharpened with a loose hold (λ = 0.3)", placed(None, replace(chosen, hold=0.3))
    yield "… sharpened with a firm hold (λ = 4)", placed(None, replace(chosen, hold=4.0))
    yield "… sharpened, only the layout's distances held (τ = 0)", placed(None, replace(chosen, taught=0.0))
    yield "… sharpened by neighbours in the embedding alone (ω = 0)", placed(None, replace(chosen, own=0.0))
    yield (
        "… sharpened by neighbours in the slide's own components alone (ω = 1)",
        placed(None, replace(chosen, own=1.0)),
    )
