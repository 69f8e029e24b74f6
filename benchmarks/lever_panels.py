"""Layouts where a small panel of genes is known, by the share of them that training drops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import lever_spots
import tasks
from ipar._expression import Expression, get_expression
from ipar.metrics import evaluate
from ipar.model import Sharpening
from ipar.model.sharpening import sharpen_layout
from ipar.training import EncoderRecipe
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import Layouts, overview_of, slides_of

N_GENES = 350
SHARES = {"a half": 0.5, "a fifth": 0.2}
_N_PCS = {True: 100, False: 30}  # as left-out slides have it mostly, where more than 2,500 cells teach and elsewhere
_SHARPENING = Sharpening(own=0.2)


def measure(fold: tasks.Task, seed: int, data: Path, scores: tuple[str, ...]) -> dict[str, Any]:
    """Scores of every layout of a fold of sections, or of half of the slide that taught and placed cells are dealt from."""
    known, query, truth = taught_and_asked(fold, seed, data)
    kind = "half of an embryo"
    if fold != lever_spots.SLIDE:
        kind, panel = f"sections, {N_GENES} genes", variable_genes(known)
        known = [replace(slide, expression=slide.expression[:, panel]) for slide in known]
        query = Expression(query.matrix[:, panel], query.genes[panel])
    return scored(kind, layouts(known, query, seed), truth, scores)


def taught_and_asked(fold: tasks.Task, seed: int, data: Path) -> tuple[list[Slide], Expression, Any]:
    """Slides that teach, what is placed of the same genes, and its true places: of a fold, or halves of a slide."""
    one = tasks.load(fold, data)
    if fold == lever_spots.SLIDE:
        taught, asked = lever_spots.halves(one.query.n_obs, seed)
        cells = get_expression(one.query)
        known = [Slide(cells.matrix[taught], one.truth[taught].astype(np.float32), "taught")]
        return known, replace(cells, matrix=cells.matrix[asked]), one.truth[asked]
    train, whole = get_expression(one.train), get_expression(one.query)
    query = Expression(whole.matrix[:, whole.genes.get_indexer(train.genes)], train.genes)
    return slides_of(one.train, train), query, one.truth


def scored(kind: str, found: Layouts, truth: Any, scores: tuple[str, ...]) -> dict[str, Any]:
    """Scores of layouts, each under its kind and name."""
    results = {name: evaluate(truth, coords, random_state=0) for name, coords in found}
    return {f"{kind}: {name}": {key: float(one[key]) for key in scores} for name, one in results.items()}


def variable_genes(slides: list[Slide]) -> Any:
    """The genes that vary most within slides, in their order."""
    spread = np.mean([slide.expression.toarray().var(axis=0) for slide in slides], axis=0)
    return np.sort(np.argsort(-spread, kind="stable")[:N_GENES])


def layouts(known: list[Slide], query: Expression, seed: int) -> Layouts:
    """The overview and the same sharpened; between shares only the network that reads genes differs."""
    many = len(known) > 1
    recipe = replace(EncoderRecipe(), n_pcs=_N_PCS[many])
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    whole = None
    for name, share in SHARES.items():
        trained = {} if whole is None else {part.source: part.net for part in whole.parts if part.source == "pca"}
        encoder = fit_encoder(
            known,
            query.genes,
            ["both"],
            replace(recipe, genes_input_dropout=share),
            overview=whole is None,
            sketch=whole is None and many,
            trained=trained,
            random_state=seed,
        )["both"]
        whole = whole or encoder
        encoder = replace(encoder, overview=whole.overview, sketch=whole.sketch)
        h, far, across = encoder.views(query.matrix, query.genes, one)
        layout = overview_of(across)
        yield f"{name} dropped", layout
        own = encoder.own_components(query.matrix, query.genes, one)
        sharp = sharpen_layout(layout, h, far, _SHARPENING, components=own, random_state=seed)
        yield f"{name} dropped, sharpened", sharp
