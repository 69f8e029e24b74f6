"""Layouts of a left-out section, by what the encoder and the network are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from ipar.training._overview_weight import OVERVIEW_WEIGHTS, weighted
from scipy import sparse

import ipar
import tasks
from ipar._expression import Expression, get_expression
from ipar.model import GeometryEncoder
from ipar.training import EncoderRecipe
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import Layouts, centred, far_of, overview_of, slides_of

_KEPT_COUNTS = 0.5
_TARGET_SUM = 1e4
_TRANSPORT_CELLS = 3000  # of the training slides: the plan has a row a query cell


def layouts_of_transfer(slides: tasks.Slides, seed: int, data: Path) -> Layouts:
    """The overview, by what else the encoder is trained on, and with the query transported onto the training slides."""
    train, query = get_expression(slides.train), get_expression(slides.query)
    parts = slides_of(slides.train, train)
    recipe = EncoderRecipe()

    def fitted(given: list[Slide], how: EncoderRecipe = recipe) -> GeometryEncoder:
        return fit_encoder(given, train.genes, ["both"], how, overview=True, random_state=seed)["both"]

    encoder = fitted(parts)
    far = far_of(encoder, query)
    yield "… the encoder again, its set encoder of weight 1", overview_of(far)
    for weight in OVERVIEW_WEIGHTS[1:]:
        yield f"… its set encoder of weight {weight:g}", overview_of(weighted(encoder, far, weight))
    yield (
        "… its components transported onto those of the training slides (optimal transport)",
        overview_of(far_of(encoder, transported(encoder, parts, query, seed))),
    )
    yield (
        "… trained without dropout of genes",
        overview_of(far_of(fitted(parts, replace(recipe, genes_input_dropout=0.0)), query)),
    )
    halves = [thinned(part, seed + i) for i, part in enumerate(parts)]
    yield "… trained on slides with half of their counts too", overview_of(far_of(fitted([*parts, *halves]), query))
    for name, task in (("olfactory bulb", "ob"), ("liver", "liver")):
        other = as_genes(tasks.load(tasks.TASKS[task], data).train, train.genes)
        more = slides_of(other, get_expression(other))
        yield f"… trained on slides of another tissue too ({name})", overview_of(far_of(fitted([*parts, *more]), query))


def layouts_of_minisets(slides: tasks.Slides, seed: int) -> Layouts:
    """The network, by the size of its minisets and its number of candidates; one embedding for all."""
    train = slides.train.copy()
    ipar.pp.embed(train, "slide", random_state=seed, progress=False)
    for name, options in (
        ("96 to 384 cells, 100 candidates (the default)", {}),
        ("384 to 900 cells, 100 candidates", {"miniset_size": (384, 900)}),
        ("96 to 900 cells, 100 candidates", {"miniset_size": (96, 900)}),
        ("96 to 384 cells, 50 candidates", {"n_neighbors": 50}),
        ("96 to 384 cells, 200 candidates", {"n_neighbors": 200}),
    ):
        one = train.copy()
        model = ipar.tl.fit_ipalite(one, "slide", random_state=seed, progress=False, **options)
        for step, changed in (
            ("network alone", {"global_weight": 0.0, "sharpen": False}),
            ("finished", {}),
        ):
            query = slides.query.copy()
            ipar.tl.predict_coords(query, model, random_state=seed, progress=False, **changed)
            yield f"{step}: minisets of {name}", query.obsm["X_ipar"]


def transported(encoder: GeometryEncoder, slides: list[Slide], query: Expression, seed: int) -> Expression:
    """The query, moved so that its components lie among those of the training slides (Courty et al., 2017)."""
    from ot.da import SinkhornTransport  # POT; the levers alone need it

    matrix, _ = encoder.match(query.matrix, query.genes)
    own = centred(np.asarray(matrix @ encoder.loadings, dtype=np.float64))
    known = np.concatenate([centred(slide.expression @ encoder.loadings) for slide in slides])
    some = known[np.random.default_rng(seed).permutation(len(known))[:_TRANSPORT_CELLS]]
    plan = SinkhornTransport(reg_e=0.02, norm="median", max_iter=500).fit(Xs=own, Xt=some)
    shift = plan.transform(Xs=own) - own
    moved = matrix.toarray() + shift @ np.linalg.pinv(encoder.loadings)
    return Expression(sparse.csr_matrix(moved.astype(np.float32)), encoder.genes)


def thinned(slide: Slide, seed: int) -> Slide:
    """The slide as half of its counts would show it; the smallest value of a cell is one count."""
    values = slide.expression.copy().astype(np.float64)
    values.data = np.expm1(values.data)
    cells = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    unit = np.full(values.shape[0], np.inf)
    np.minimum.at(unit, cells, values.data)
    counts = np.rint(values.data / unit[cells]).astype(np.int64)
    values.data = np.random.default_rng(seed).binomial(counts, _KEPT_COUNTS).astype(np.float64)
    total = np.maximum(np.asarray(values.sum(axis=1)).ravel(), 1.0)
    values.data = np.log1p(values.data / total[cells] * _TARGET_SUM)
    values.eliminate_zeros()
    return replace(slide, expression=sparse.csr_matrix(values, dtype=np.float32), name=f"{slide.name}, thinned")


def as_genes(adata: ad.AnnData, genes: pd.Index) -> ad.AnnData:
    """Slides with these genes, zero where they were not measured."""
    at = adata.var_names.get_indexer(genes)
    found = sparse.csc_matrix(adata.X)[:, np.maximum(at, 0)] @ sparse.diags_array((at >= 0).astype(np.float32))
    return ad.AnnData(sparse.csr_matrix(found), obs=adata.obs, var=pd.DataFrame(index=genes), obsm=dict(adata.obsm))
