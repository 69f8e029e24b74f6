"""Learning what training cells look like that were left out, and what is left to know of cells that look otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge

from ipar._options import Checked, Count
from ipar._run import Run
from ipar.metrics import cell_errors
from ipar.model.blend import global_map
from ipar.model.covariation import Covariation
from ipar.model.encoder import GeometryEncoder
from ipar.model.resemblance import Known, Resemblance, Signs, landmarks_of, lesser_rank, shortfall
from ipar.training.slides import Slide
from ipar.training.taught import Taught, embed_slide

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ResemblanceRecipe(Checked):
    """How it is learned.

    Attributes
    ----------
    n_landmarks
        Training cells that the cells of a query are compared with.
    n_depths, least_counts
        Depths that left-out cells are thinned out to, down to so many counts, evenly spaced in their logarithm.
    n_quantiles, n_knots
        Points of the distributions and of the map that are kept.
    usual
        Quantile of left-out cells from which on signs count as usual, and errors are as expected.
    least_threshold, margin
        A query is foreign beyond this distance, and beyond so many times the largest of a left-out slide.
    """

    n_landmarks: Count = 2000
    n_depths: int = 4
    least_counts: float = 4.0
    n_quantiles: Count = 101
    n_knots: Count = 30
    usual: float = 0.2
    least_threshold: float = 3.0
    margin: float = 1.5


@dataclass(frozen=True)
class _LeftOut:
    """Signs of one left-out part as it is, and of it and its variants the signs and what is kept of the errors."""

    signs: Signs
    cells: list[Floats]
    kept: list[Floats]


def fit_resemblance(
    encoders: Sequence[GeometryEncoder],
    encoder: GeometryEncoder,
    taught: Taught,
    recipe: ResemblanceRecipe,
    run: Run,
) -> Resemblance:
    """Compare left-out parts, by encoders that never saw their coordinates, with the cells that these were taught on.

    Parameters
    ----------
    encoders
        The encoder that each part of the folds was held out of.
    encoder
        The encoder of all slides.
    taught
        Training slides in two dimensions, what was held out of them, and their embeddings.
    recipe, run
        All knobs, and the seed.
    """
    folds, parts = taught.folds, taught.folds.split(taught.slides)
    known = {group: _known(encoders[group[0]], taught, group, recipe, run) for group in folds.groups}
    left_out = [
        _left_out(encoders[i], known[folds.group_of(i)], part.rows(folds.cells[i]), recipe, run)
        for i, part in enumerate(parts)
    ]
    signs = np.stack([one.signs.slide for one in left_out])
    cells = np.concatenate([one.signs.cells for one in left_out])
    levels = np.linspace(0, 1, recipe.n_quantiles)
    quantiles = np.quantile(cells[:, :2], levels, axis=0).T
    lesser = np.quantile(lesser_rank(cells, quantiles), levels)
    centre, weights, knots = _kept(left_out, recipe)
    found = Resemblance(
        known=_known(encoder, taught, (), recipe, run),
        slides=signs,
        threshold=recipe.least_threshold,
        cells=np.concatenate([quantiles, lesser[None]]),
        centre=centre,
        weights=weights,
        knots=knots,
    )
    others = [np.delete(signs, i, axis=0) for i in range(len(signs))]
    least = found.least_spread, found.least_share
    own = [np.linalg.norm(shortfall(x, rest, *least)) for x, rest in zip(signs, others, strict=True)]
    return replace(found, threshold=max(recipe.least_threshold, recipe.margin * float(max(own))))


def _known(
    encoder: GeometryEncoder, taught: Taught, group: tuple[int, ...], recipe: ResemblanceRecipe, run: Run
) -> Known:
    """What cells are compared with, from slides that an encoder was taught on."""
    slides = taught.known(group)
    n_each = -(-recipe.n_landmarks // len(slides))
    covariation = Covariation.of([slide.expression for slide in slides], random_state=run.seed)
    landmarks = [landmarks_of(own, n_each, run.seed) for own in taught.embeddings(encoder, group)]
    detected = np.concatenate([np.diff(sparse.csr_matrix(x.expression[:, covariation.genes]).indptr) for x in slides])
    return Known(covariation, np.concatenate(landmarks), float(np.median(detected)))


def _left_out(encoder: GeometryEncoder, known: Known, slide: Slide, recipe: ResemblanceRecipe, run: Run) -> _LeftOut:
    """Signs and errors of a slide as it is, thinned out, and with its genes shuffled."""
    first: Signs | None = None
    cells: list[Floats] = []
    kept: list[Floats] = []
    best = 0.05  # of a tissue that cannot be localised, nothing is lost
    for one in _variants(slide, recipe, run):
        features = embed_slide(encoder, one)
        signs = known.signs(one.expression, features.embedding)
        left = 1 - np.square(cell_errors(one.coords, global_map(features.global_features).numpy()))
        if first is None:
            first, best = signs, max(best, float(left.mean()))
        cells.append(signs.cells)
        kept.append(left / best)
    assert first is not None
    return _LeftOut(first, cells, kept)


def _variants(slide: Slide, recipe: ResemblanceRecipe, run: Run) -> Iterator[Slide]:
    """The slide, the slide at mixed and at even depths, and without what its genes have in common."""
    yield slide
    counts = approximate_counts(slide.expression)
    depth = float(np.median(np.asarray(counts.sum(axis=1))))
    if depth > recipe.least_counts:
        least = recipe.least_counts / depth
        mixed = np.exp(run.rng.uniform(np.log(least), 0, len(slide)))
        even = np.geomspace(1, least, recipe.n_depths + 1)[1:, None] * np.ones(len(slide))
        for share in (mixed, *even):
            thin = thinned(slide.expression, counts, share, run.rng)
            rows = np.flatnonzero(np.diff(thin.indptr))  # of empty cells nothing is learned
            if len(rows) > 50:
                yield Slide(thin[rows], slide.coords[rows], slide.name)
    yield replace(slide, expression=shuffled(slide.expression, run.rng))


def approximate_counts(expression: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts of log-normalised cells, if the least value of a cell is one count."""
    counts = sparse.csr_matrix(expression, copy=True)
    counts.eliminate_zeros()
    counts.data = np.expm1(counts.data.astype(np.float64))
    least = np.ones(counts.shape[0])
    rows = np.flatnonzero(np.diff(counts.indptr))
    least[rows] = np.minimum.reduceat(counts.data, counts.indptr[rows])
    counts.data = np.round(counts.data / np.repeat(least, np.diff(counts.indptr)))
    return counts


def thinned(
    expression: sparse.csr_matrix, counts: sparse.csr_matrix, share: Floats, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Log-normalised expression as it would be with a share of the counts of each cell ``(n,)``; totals of cells stay."""
    total = np.asarray(expression.expm1().sum(axis=1)).ravel()
    thin = counts.copy()
    of_value = np.repeat(share, np.diff(thin.indptr))
    thin.data = rng.binomial(np.minimum(thin.data, 2**31 - 1).astype(np.int64), of_value).astype(np.float64)
    thin.eliminate_zeros()
    own = np.maximum(np.asarray(thin.sum(axis=1)).ravel(), 1)
    thin.data = np.log1p(thin.data * np.repeat(total / own, np.diff(thin.indptr)))
    return sparse.csr_matrix(thin, dtype=np.float32)


def shuffled(expression: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Every gene with its values dealt out to other cells."""
    columns = sparse.csc_matrix(expression, copy=True)
    n = columns.shape[0]
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        columns.indices[start:stop] = np.sort(rng.choice(n, stop - start, replace=False))
        columns.data[start:stop] = rng.permutation(columns.data[start:stop])
    return sparse.csr_matrix(columns)


def _kept(left_out: Sequence[_LeftOut], recipe: ResemblanceRecipe) -> tuple[Floats, Floats, Floats]:
    """Centre and weights of the linear function, and the knots of its monotone map."""
    z = np.concatenate([own for one in left_out for own in one.cells])
    y = np.concatenate([own for one in left_out for own in one.kept])
    weight = np.concatenate([np.full(len(own), 1 / len(own)) for one in left_out for own in one.cells])
    centre, scale = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-6)
    ridge = Ridge(1e-3, positive=True).fit((z - centre) / scale, y, sample_weight=weight / weight.mean())
    weights = np.asarray(ridge.coef_) / scale
    value = (z - centre) @ weights
    bins = np.array_split(np.argsort(value, kind="stable"), min(recipe.n_knots, len(value)))
    x, shares = np.array([value[cells].mean() for cells in bins]), np.array([weight[cells].sum() for cells in bins])
    means = np.array([np.average(y[cells], weights=weight[cells]) for cells in bins])
    rising = IsotonicRegression(y_min=0.0).fit_transform(x, means, sample_weight=shares)
    own = np.concatenate([(one.cells[0] - centre) @ weights for one in left_out])
    usual = float(np.quantile(own, recipe.usual))  # among cells like the left-out ones, the head knows better
    before = x < usual
    knots = np.stack([np.append(x[before], usual), np.append(np.minimum(rising[before], 1.0), 1.0)])
    return centre, weights, knots
