"""Cross-fitted embeddings: every training slide as an encoder sees it that never saw its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from ipar._run import Run
from ipar.model import GeometryEncoder
from ipar.model.encoder import Inputs
from ipar.model.features import equalise_blocks
from ipar.model.given import Encoder, GivenEncoder
from ipar.model.resemblance import Resemblance
from ipar.nn import SharedEncoder
from ipar.training.encoder import EncoderRecipe, GeneAxes, fit_encoder
from ipar.training.folds import Folds
from ipar.training.localise import FoldScore, Localisability, score_fold, score_of
from ipar.training.orientation import Orientation
from ipar.training.resemblance import fit_resemblance
from ipar.training.set_encoder import choose_weight, score_weights, weighted
from ipar.training.slides import Slide, SlideSet
from ipar.training.taught import Taught, embed_slide

Form = tuple[Inputs, int]  # what the encoder reads, and how many components


@dataclass(frozen=True)
class EmbeddingFit:
    """A fitted encoder, and training slides as encoders see them that never saw their coordinates.

    Networks that take embeddings of new slides must be trained on these: an encoder separates the slides it was trained on
    far better than any other.
    """

    encoder: Encoder  # trained on all slides
    cross_fitted: list[NDArray[np.float32]]  # embedding of every part of the folds, in the space of `encoder`
    cross_fitted_global: list[NDArray[np.float32]]  # global features, each in a space of its own; none in 3D
    localisability: Localisability  # scores of the held-out slides, and the verdict
    choice: pd.DataFrame  # score of every input and number of components
    weight_choice: pd.DataFrame  # weight, luna_spearman, e_geo: of the set encoder; empty in 3D
    resemblance: Resemblance | None  # what left-out cells look like; None in 3D, and of embeddings from elsewhere


@dataclass(frozen=True)
class LeftOut:
    """A held-out slide or part, and an encoder that never saw its coordinates."""

    index: int
    encoder: GeometryEncoder
    score: FoldScore


@dataclass(frozen=True)
class FoldEncoders:
    """Encoders that each held out some slides, with the inputs and the number of components that placed those best."""

    form: Form
    left_out: list[LeftOut]  # in the order of the slides
    axes: list[GeneAxes]  # of the slides that each group of the folds was held out of
    choice: pd.DataFrame  # score of every input and number of components
    one_section: bool = False  # whether parts of one section were held out
    oriented: float = float("nan")  # how sure they tell rotation and reflection

    @property
    def localisability(self) -> Localisability:
        """Scores of the held-out slides, and the verdict."""
        scores = tuple(one.score for one in self.left_out)
        return Localisability(scores, held_out="blocks" if self.one_section else "slides", oriented=self.oriented)


def fit_folds(slides: SlideSet, folds: Folds, recipe: EncoderRecipe, run: Run) -> FoldEncoders:
    """Choose the encoder's input on held-out slides, which tell whether the tissue can be localised.

    Components and genes err differently, and an encoder of both is taken unless one of them alone has a clearly better score
    (rank correlation of distances plus recall of neighbours). The number of components is chosen with it, where the recipe
    has several. Each group of ``folds`` costs as much as the final encoder.
    """
    forms = _forms(recipe, len(slides.genes))
    by_form: dict[Form, list[LeftOut]] = {form: [] for form in forms}
    axes = []
    parts = folds.split(slides)
    for group in run.over(folds.groups, "folds", "fold"):
        others = folds.known(slides, group)
        axes.append(GeneAxes.of(others, recipe, run))
        for form, encoder in _fit_forms(others, forms, recipe, run, axes[-1]).items():
            by_form[form] += [LeftOut(i, encoder, _score(encoder, parts[i], run)) for i in group]
    means = {form: score_of([one.score for one in found]) for form, found in by_form.items()}
    lead = recipe.lead_over_both
    best = max(forms, key=lambda form: means[form] + (lead if form[0] == "both" else 0.0))
    rows = [(name, n_pcs, score) for (name, n_pcs), score in means.items()]
    choice = pd.DataFrame(rows, columns=["inputs", "n_pcs", "score"])
    left_out = sorted(by_form[best], key=lambda one: one.index)
    oriented = Orientation().of([one.encoder for one in left_out], slides, folds)
    return FoldEncoders(best, left_out, axes, choice, folds.one_section, oriented)


def fit_embedding(
    slides: SlideSet, folds: Folds, recipe: EncoderRecipe, run: Run, known: FoldEncoders | None = None
) -> EmbeddingFit:
    """Choose the encoder's input on held-out slides, fit it on all, embed every slide out of fold.

    The result of :func:`fit_folds` is taken as ``known``, if given.
    """
    if known is None:
        known = fit_folds(slides, folds, recipe, run)
    inputs, n_pcs = known.form
    final = replace(recipe, n_pcs=n_pcs)
    global_features: dict[int, NDArray[np.float32]] = {}
    votes, parts = [], folds.split(slides)
    voting = folds.groups if slides.n_dims == 2 else ()  # as layouts are
    with run.bar("encoder", len(voting) + 1, "fit") as bar:
        for group, own in zip(voting, known.axes, strict=False):
            whole = _with_set_encoder(folds.known(slides, group), known.left_out[group[0]].encoder, final, run, own)
            for i in group:
                across = global_features[i] = embed_slide(whole, parts[i]).global_features
                cells, weights = folds.cells[i], recipe.set_encoder_weights
                truth = parts[i].coords[cells]
                votes.append(score_weights(whole, across[cells], truth, weights, run, recipe.n_minisets))
            bar.update()
        weight, weight_choice = choose_weight(votes, recipe.energy_cost)
        encoder = fit_encoder(slides, (inputs,), final, run, set_encoder=True)[inputs]
        encoder = replace(encoder, set_encoder_weight=weight)
        bar.update()
    taught = Taught(slides, folds)
    return EmbeddingFit(
        encoder=encoder,
        cross_fitted=[_cross_fit(one, encoder, taught, parts[one.index]) for one in known.left_out],
        cross_fitted_global=[weighted(encoder, own, weight) for _, own in sorted(global_features.items())],
        localisability=known.localisability,
        choice=known.choice,
        weight_choice=weight_choice,
        resemblance=_resemblance(known, encoder, taught, recipe, run),
    )


def given_embedding(slides: SlideSet, folds: Folds, encoder: GivenEncoder, run: Run) -> EmbeddingFit:
    """An embedding that was made without coordinates: nothing is trained, and every slide tells about the tissue."""
    parts = folds.split(slides)
    features = [embed_slide(encoder, part) for part in parts]
    scores = tuple(_score(encoder, part, run) for part in parts)
    return EmbeddingFit(
        encoder=encoder,
        cross_fitted=[one.embedding for one in features],
        cross_fitted_global=[one.global_features for one in features],
        localisability=Localisability(
            scores,
            held_out="blocks" if folds.one_section else "slides",
            oriented=Orientation().of([encoder] * len(parts), slides, folds),
        ),
        choice=pd.DataFrame(columns=["inputs", "n_pcs", "score"]),
        weight_choice=choose_weight((), 0.0)[1],
        resemblance=None,
    )


def _resemblance(
    known: FoldEncoders, encoder: GeometryEncoder, taught: Taught, recipe: EncoderRecipe, run: Run
) -> Resemblance | None:
    if taught.slides.n_dims == 3:
        return None
    return fit_resemblance([one.encoder for one in known.left_out], encoder, taught, recipe.resemblance, run)


def _forms(recipe: EncoderRecipe, n_genes: int) -> list[Form]:
    """Every input with every number of components; genes alone need none, but the set encoder beside them does."""
    inputs: tuple[Inputs, ...] = ("pca", "genes", "both") if recipe.inputs is None else (recipe.inputs,)
    sizes = list(dict.fromkeys(min(n, n_genes - 1) for n in recipe.sizes))  # few genes have no more components
    return [(name, n) for n in sizes for name in inputs if name != "genes" or n == sizes[0]]


def _fit_forms(
    slides: SlideSet, forms: Sequence[Form], recipe: EncoderRecipe, run: Run, axes: GeneAxes
) -> dict[Form, GeometryEncoder]:
    """An encoder per form; the network on genes is trained once."""
    fitted: dict[Form, GeometryEncoder] = {}
    trained: dict[str, SharedEncoder] = {}
    for n_pcs in dict.fromkeys(n for _, n in forms):
        names = [name for name, n in forms if n == n_pcs]
        one = replace(recipe, n_pcs=n_pcs)
        for name, encoder in fit_encoder(slides, names, one, run, trained=trained, axes=axes).items():
            fitted[name, n_pcs] = encoder
            trained |= {part.source: part.net for part in encoder.parts if part.source == "genes"}
    return fitted


def _with_set_encoder(
    slides: SlideSet, encoder: GeometryEncoder, recipe: EncoderRecipe, run: Run, axes: GeneAxes
) -> GeometryEncoder:
    """An encoder with a set encoder, trained on the same slides, beside it."""
    name: Inputs = encoder.record["inputs"]
    trained: dict[str, SharedEncoder] = {part.source: part.net for part in encoder.parts}
    return fit_encoder(slides, (name,), recipe, run, set_encoder=True, trained=trained, axes=axes)[name]


def _score(encoder: Encoder, slide: Slide, run: Run) -> FoldScore:
    embedding = embed_slide(encoder, slide).embedding
    columns = encoder.global_columns
    return score_fold(slide.name, embedding, slide.coords, global_columns=columns, random_state=run.seed)


def _cross_fit(one: LeftOut, encoder: GeometryEncoder, taught: Taught, part: Slide) -> NDArray[np.float32]:
    """The part's embedding, rotated from the fold's space into the final one on the slides that both were trained on."""
    group = taught.folds.group_of(one.index)
    source, target = (np.concatenate(taught.embeddings(each, group)) for each in (one.encoder, encoder))
    own = embed_slide(one.encoder, part).embedding
    blocks = []
    for columns in np.array_split(np.arange(source.shape[1]), encoder.n_blocks):
        a, b = source[:, columns], target[:, columns]
        rotation, _ = orthogonal_procrustes(a - a.mean(0), b - b.mean(0))
        blocks.append((own[:, columns] - a.mean(0)) @ rotation + b.mean(0))
    joined: NDArray[np.float32] = np.concatenate(blocks, axis=1).astype(np.float32)
    return equalise_blocks(joined, np.zeros(len(joined), dtype=np.int64), encoder.n_blocks)
