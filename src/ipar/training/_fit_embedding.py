"""Cross-fitted embeddings: every training slide as an encoder sees it that never saw its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from tqdm.auto import tqdm

from ipar._steps import FEW_CELLS
from ipar.model._encoder import GeometryEncoder, Inputs
from ipar.model._features import equalise_blocks
from ipar.nn import SharedEncoder
from ipar.training._fit_encoder import EncoderRecipe, Slide, fit_encoder
from ipar.training._localise import FoldScore, Localisability, score_fold, score_of
from ipar.training._overview_weight import choose_weight, score_weights, weighted

Form = tuple[Inputs, int]  # what the encoder reads, and how many components
ALL_INPUTS: tuple[Inputs, ...] = ("pca", "genes", "both")
# the score by which another input must be better than both: left-out slides, taught by fewer, find some more neighbours
# by components alone, while all slides place an unseen one better by both (docs/levers.md)
_LEAD_OVER_BOTH = 0.05


@dataclass(frozen=True)
class EmbeddingFit:
    """A fitted encoder and what leaving slides out says about it.

    Attributes
    ----------
    encoder
        Trained on all slides; embeds unseen ones.
    cross_fitted
        Embedding of every training slide by encoders that never saw its coordinates, in the space of ``encoder``.
        Networks that take embeddings of unseen slides must be trained on these: an encoder separates the slides it was
        trained on far better than any other.
    cross_fitted_overview
        What tells distances across every training slide, the set encoder's part at the weight chosen, by encoders that
        never saw its coordinates, ``(n_s, d)``: as :meth:`GeometryEncoder.views` gives it for an unseen
        slide, but each in a space of its own. Empty for coordinates in three dimensions.
    localisability
        Scores of the left-out slides and the verdict.
    choice
        Score of every kind of input and number of components, mean over left-out slides.
    overview_choice
        Rank correlation of distances and E_geo at every weight of the set encoder, mean over left-out slides:
        ``weight, luna_spearman, e_geo``. Empty for coordinates in three dimensions: the weight is 1 then.
    """

    encoder: GeometryEncoder
    cross_fitted: list[NDArray[np.float32]]
    cross_fitted_overview: list[NDArray[np.float32]]
    localisability: Localisability
    choice: pd.DataFrame
    overview_choice: pd.DataFrame


def assign_folds(n_slides: int, n_folds: int, random_state: int) -> list[list[int]]:
    """Groups of slides to leave out in turn; each slide is in one."""
    order = np.random.default_rng(random_state).permutation(n_slides)
    return [part.tolist() for part in np.array_split(order, min(n_folds, n_slides))]


def fit_embedding(
    slides: Sequence[Slide],
    genes: pd.Index,
    *,
    inputs: Inputs | None = None,
    recipe: EncoderRecipe | None = None,
    n_folds: int = 3,
    random_state: int = 0,
    device: torch.device | None = None,
    progress: bool = False,
) -> EmbeddingFit:
    """Choose the encoder's input by leaving slides out, fit it on all, embed every slide out of fold.

    Components and genes err differently, and an encoder of both is taken unless one of them alone has a score (rank
    correlation of distances plus recall of neighbours) better by 0.05: what separates them on left-out slides, with one slide
    fewer to learn from, does not hold on an unseen one.

    The number of components is chosen with it, where the recipe has several. More than 2,500 cells in all also train a
    network that draws the tissue; from fewer it learns too little to help.

    Parameters
    ----------
    slides
        Training slides, at least two.
    genes
        Names of their genes.
    inputs
        ``"pca"``, ``"genes"`` or ``"both"``; if None, both, unless one of them is clearly better on left-out slides.
    recipe
        Shapes and training of the encoder.
    n_folds
        Groups of slides left out in turn, at most one a slide; each costs as much as the final encoder.
    random_state
        Seed.
    device
        Where to train.
    progress
        Show a bar over folds.

    Raises
    ------
    ValueError
        If ``inputs`` is not known or there are fewer than two folds.
    """
    if inputs not in (None, *ALL_INPUTS):
        msg = f"inputs must be one of {ALL_INPUTS}, or None to choose on left-out slides; found {inputs!r}."
        raise ValueError(msg)
    if n_folds < 2:
        msg = f"n_folds must be at least 2, found {n_folds}: a fold is trained on the slides that the others leave out."
        raise ValueError(msg)
    recipe = recipe or EncoderRecipe()
    forms = _forms(ALL_INPUTS if inputs is None else (inputs,), recipe, len(genes))
    folds = assign_folds(len(slides), n_folds, random_state)
    options: dict[str, Any] = {"random_state": random_state, "device": device}
    by_form: dict[Form, list[tuple[int, GeometryEncoder, FoldScore]]] = {form: [] for form in forms}
    flat = slides[0].coords.shape[1] == 2  # as layouts are
    voting = folds if flat else []
    sketch = flat and sum(slide.expression.shape[0] for slide in slides) > FEW_CELLS
    with tqdm(total=len(folds) + len(voting) + 1, desc="encoder", unit="fold", disable=not progress) as bar:
        for left in folds:
            kept = [slide for i, slide in enumerate(slides) if i not in left]
            for form, encoder in _fit_forms(kept, genes, forms, recipe, options).items():
                by_form[form] += [(i, encoder, _score(encoder, slides[i], genes, random_state)) for i in left]
            bar.update()
        means = {form: score_of([score for _, _, score in found]) for form, found in by_form.items()}
        best = max(forms, key=lambda form: means[form] + (_LEAD_OVER_BOTH if form[0] == "both" else 0.0))
        final = replace(recipe, n_pcs=best[1])
        found = sorted(by_form[best], key=lambda item: item[0])
        overviews: list[_Overview] = []
        for left in voting:
            overviews += _overviews(left, slides, genes, found[left[0]][1], final, options)
            bar.update()
        weight, overview_choice = choose_weight([one.votes for one in overviews])
        encoder = fit_encoder(slides, genes, (best[0],), final, overview=True, sketch=sketch, **options)[best[0]]
        encoder = replace(encoder, overview_weight=weight)
        bar.update()
    rows = [(name, n_pcs, score) for (name, n_pcs), score in means.items()]
    overviews.sort(key=lambda one: one.slide)
    return EmbeddingFit(
        encoder=encoder,
        cross_fitted=[_cross_fit(out, encoder, slides, i, folds) for i, out, _ in found],
        cross_fitted_overview=[weighted(encoder, one.far, weight) for one in overviews],
        localisability=Localisability(tuple(score for _, _, score in found)),
        choice=pd.DataFrame(rows, columns=["inputs", "n_pcs", "score"]),
        overview_choice=overview_choice,
    )


def _forms(inputs: Sequence[Inputs], recipe: EncoderRecipe, n_genes: int) -> list[Form]:
    """Every input with every number of components; genes alone need none, but the set encoder beside them does."""
    sizes = list(dict.fromkeys(min(n, n_genes - 1) for n in recipe.sizes))  # few genes have no more components
    return [(name, n) for n in sizes for name in inputs if name != "genes" or n == sizes[0]]


def _fit_forms(
    slides: Sequence[Slide], genes: pd.Index, forms: Sequence[Form], recipe: EncoderRecipe, options: dict[str, Any]
) -> dict[Form, GeometryEncoder]:
    """An encoder a form; the network on genes is trained once."""
    fitted: dict[Form, GeometryEncoder] = {}
    trained: dict[str, SharedEncoder] = {}
    for n_pcs in dict.fromkeys(n for _, n in forms):
        names = [name for name, n in forms if n == n_pcs]
        one = replace(recipe, n_pcs=n_pcs)
        for name, encoder in fit_encoder(slides, genes, names, one, trained=trained, **options).items():
            fitted[name, n_pcs] = encoder
            trained |= {part.source: part.net for part in encoder.parts if part.source == "genes"}
    return fitted


class _Overview(NamedTuple):
    """What a fold says of distances across a slide that it left out, and its votes for the set encoder's weight."""

    slide: int
    far: NDArray[np.float32]
    votes: pd.DataFrame


def _overviews(
    left: Sequence[int],
    slides: Sequence[Slide],
    genes: pd.Index,
    fold: GeometryEncoder,
    recipe: EncoderRecipe,
    options: dict[str, Any],
) -> list[_Overview]:
    """Left-out slides as the fold's encoder and a set encoder that did not see them either have them, and their votes."""
    kept = [slide for i, slide in enumerate(slides) if i not in left]
    name: Inputs = fold.record["inputs"]
    trained: dict[str, SharedEncoder] = {part.source: part.net for part in fold.parts}
    whole = fit_encoder(kept, genes, (name,), recipe, overview=True, trained=trained, **options)[name]
    found = []
    for i in left:
        far = whole.views(slides[i].expression, genes, _one_slide(slides[i])).far
        votes = score_weights(whole, far, slides[i].coords, options["random_state"])
        found.append(_Overview(i, far, votes))
    return found


def embed_slide(encoder: GeometryEncoder, slide: Slide, genes: pd.Index) -> NDArray[np.float32]:
    """Embed one slide."""
    return encoder.transform(slide.expression, genes, _one_slide(slide))


def _one_slide(slide: Slide) -> pd.Categorical[Any]:
    return pd.Categorical(np.full(slide.expression.shape[0], slide.name))


def _score(encoder: GeometryEncoder, slide: Slide, genes: pd.Index, random_state: int) -> FoldScore:
    h = embed_slide(encoder, slide, genes)
    return score_fold(slide.name, h, slide.coords, far=h[:, encoder.global_columns], random_state=random_state)


def _cross_fit(
    fold: GeometryEncoder, encoder: GeometryEncoder, slides: Sequence[Slide], index: int, folds: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """The left-out slide's embedding, rotated from the fold's space into the final one on the slides both have seen."""
    left = next(group for group in folds if index in group)
    seen = [slide for i, slide in enumerate(slides) if i not in left]
    source = np.concatenate([embed_slide(fold, slide, encoder.genes) for slide in seen])
    target = np.concatenate([embed_slide(encoder, slide, encoder.genes) for slide in seen])
    own = embed_slide(fold, slides[index], encoder.genes)
    blocks = []
    for columns in np.array_split(np.arange(source.shape[1]), encoder.n_blocks):
        a, b = source[:, columns], target[:, columns]
        rotation, _ = orthogonal_procrustes(a - a.mean(0), b - b.mean(0))
        blocks.append((own[:, columns] - a.mean(0)) @ rotation + b.mean(0))
    joined: NDArray[np.float32] = np.concatenate(blocks, axis=1).astype(np.float32)
    return equalise_blocks(joined, np.zeros(len(joined), dtype=np.int64), encoder.n_blocks)
