"""Layouts of a held-out section, by what the encoder and the network are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import ipar
from benchmarks.ablations.encoder import components_of
from benchmarks.ablations.fits import Layouts, Placed, fit, fit_model, map_of, read
from benchmarks.tasks import tasks
from benchmarks.tasks.embedded import slide_set
from ipar.model import Blend, GeometryEncoder
from ipar.model.blend import global_map
from ipar.training import EncoderRecipe, Recipe, SlideSet
from ipar.training.resemblance import approximate_counts
from ipar.training.set_encoder import weighted
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide

_KEPT_COUNTS, _TARGET_SUM = 0.5, 1e4
_TRANSPORT_CELLS = 3000  # of the training slides: the plan has a row per query cell
_OTHERS = {"olfactory bulb": "ob", "liver": "liver"}
_PLANS: dict[str, dict[str, Any]] = {  # of the network's minisets
    "96 to 384 cells, 100 candidates (the default)": {},
    "384 to 900 cells, 100 candidates": {"size": (384, 900)},
    "96 to 900 cells, 100 candidates": {"size": (96, 900)},
    "96 to 384 cells, 50 candidates": {"n_neighbors": 50},
    "96 to 384 cells, 200 candidates": {"n_neighbors": 200},
}
RECIPE = EncoderRecipe()


def layouts(slides: tasks.Slides, seed: int, data: Path) -> Layouts:
    """The global map, by what else the encoder is trained on, and with the query transported onto the slides."""
    known, query = read(slides)
    encoder = fit(known, RECIPE, seed)
    features = embed_slide(encoder, query).global_features
    first, *weights = RECIPE.set_encoder_weights
    yield f"… the encoder again, its set encoder of weight {first:g}", global_map(features).numpy()
    for weight in weights:
        yield f"… its set encoder of weight {weight:g}", global_map(weighted(encoder, features, weight)).numpy()
    yield (
        "… its components transported onto those of the training slides (optimal transport)",
        map_of(encoder, transported(encoder, known, query, seed)),
    )
    whole = replace(RECIPE, genes_input_dropout=0.0, panel_input_dropout=0.0)
    yield "… trained without dropout of genes", map_of(fit(known, whole, seed), query)

    def beside(more: list[Slide]) -> GeometryEncoder:
        return fit(SlideSet((*known, *more), known.genes), RECIPE, seed)

    half = beside([thinned(slide, seed + i) for i, slide in enumerate(known)])
    yield "… trained on slides with half of their counts too", map_of(half, query)
    for name, others in other_tissues(data, known.genes).items():
        yield f"… trained on slides of another tissue too ({name})", map_of(beside(list(others)), query)


def layouts_by_minisets(slides: tasks.Slides, seed: int, default: Recipe | None = None) -> Layouts:
    """The network, by the size of its minisets and its number of candidates; one embedding for all."""
    _, query = read(slides)
    default, train = default or Recipe(), slides.train.copy()
    ipar.pp.embed(train, "slide", recipe=default.embed, random_state=seed, progress=False)
    slides = replace(slides, train=train)
    for name, changes in _PLANS.items():
        network = replace(default.network, plan=replace(default.network.plan, **changes))
        model = fit_model(slides, seed, replace(default, network=network), flow=False)
        placed = Placed.by(model, query, seed)
        yield f"network alone: minisets of {name}", placed.finished(Blend(global_map=0.0))
        yield f"finished: minisets of {name}", placed.finished(model.blend, model.sharpening)


def other_tissues(data: Path, genes: pd.Index) -> dict[str, SlideSet]:
    """Training slides of other tissues, in these genes."""
    found = {name: tasks.load(tasks.TASKS[task], data).train for name, task in _OTHERS.items()}
    return {name: slide_set(as_genes(train, genes)) for name, train in found.items()}


def transported(encoder: GeometryEncoder, slides: SlideSet, query: Slide, seed: int) -> Slide:
    """The query, moved so that its components lie among those of the slides (Courty et al., 2017)."""
    from ot.da import SinkhornTransport  # POT; the ablations alone need it

    own = components_of(encoder, [query]).astype(np.float64)
    known = components_of(encoder, list(slides))
    some = known[np.random.default_rng(seed).permutation(len(known))[:_TRANSPORT_CELLS]]
    plan = SinkhornTransport(reg_e=0.02, norm="median", max_iter=500).fit(Xs=own, Xt=some)
    shift = plan.transform(Xs=own) - own
    moved = query.expression.toarray() + shift @ np.linalg.pinv(encoder.loadings)
    return replace(query, expression=sparse.csr_matrix(moved.astype(np.float32)))


def thinned(slide: Slide, seed: int) -> Slide:
    """The slide as half of its counts would show it; the smallest value of a cell is one count."""
    values = approximate_counts(slide.expression)
    cells = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    values.data = np.random.default_rng(seed).binomial(values.data.astype(np.int64), _KEPT_COUNTS).astype(np.float64)
    total = np.maximum(np.asarray(values.sum(axis=1)).ravel(), 1.0)
    values.data = np.log1p(values.data / total[cells] * _TARGET_SUM)
    values.eliminate_zeros()
    return replace(slide, expression=sparse.csr_matrix(values, dtype=np.float32), name=f"{slide.name}, thinned")


def as_genes(adata: ad.AnnData, genes: pd.Index) -> ad.AnnData:
    """Slides with these genes, zero where they were not measured."""
    at = adata.var_names.get_indexer(genes)
    found = sparse.csc_matrix(adata.X)[:, np.maximum(at, 0)] @ sparse.diags_array((at >= 0).astype(np.float32))
    return ad.AnnData(sparse.csr_matrix(found), obs=adata.obs, var=pd.DataFrame(index=genes), obsm=dict(adata.obsm))
