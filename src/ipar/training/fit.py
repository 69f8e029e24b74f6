"""A fit, from slides to a model, on one page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ipar._run import Run
from ipar.model import IGA, Blend, Features, IPALite
from ipar.model.features import embedding_order
from ipar.model.flow import Flow
from ipar.model.given import Encoder
from ipar.model.network import NetworkLayout
from ipar.model.uncertainty import FloatArray, UncertaintyHead, spread_of
from ipar.training.finish import Finish, choose_sharpening, tissue_evenness
from ipar.training.flow import fit_flow
from ipar.training.folds import Folds
from ipar.training.held_out import StageFit
from ipar.training.network import fit_network
from ipar.training.recipe import Recipe
from ipar.training.regions import LeftOut, fit_regions, with_flow
from ipar.training.slides import SlideSet
from ipar.training.uncertainty import beside_samples, fit_uncertainty, scaled, scaled_to

logger = logging.getLogger("ipar")


@dataclass(frozen=True)
class Embedded:
    """Training slides as encoders see them that never saw their coordinates."""

    encoder: Encoder  # trained on all slides; for new ones
    features: list[Features]  # cross-fitted, of every part of the folds


Model = TypeVar("Model", IPALite, IGA)


@dataclass(frozen=True)
class ModelFit(Generic[Model]):
    """A fitted model and what was found on the way."""

    model: Model
    held_out: str  # name of the held-out slide
    stage: StageFit[Any]  # of the layout network, or of the flow where there is no network
    finish: Finish | None  # how the sharpening was chosen; None in three dimensions
    ranks: dict[str, float]  # how well expected errors rank true ones


def fit_ipalite(
    slides: SlideSet,
    embedded: Embedded,
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: Recipe,
    run: Run,
) -> ModelFit[IPALite]:
    """Fit the layouts on cross-fitted features, and choose on the held-out slide how they are finished.

    Parameters
    ----------
    slides
        Training slides with coordinates in two dimensions, or the parts of a single section (:meth:`Folds.split`).
    embedded
        Their cross-fitted features, from :func:`ipar.training.fit_embedding`.
    ellipses
        Ellipses of their cells, ``(n_s, 5)``; for the flow.
    folds
        What is held out.
    recipe, run
        All knobs; seed, device and progress.
    """
    embeddings = [one.embedding for one in embedded.features]
    with run.stage("network"):
        network = fit_network(embeddings, slides.coords, folds, recipe.network, run)
    flow = _flow_or_none(slides, embeddings, ellipses, folds, recipe, run)
    blend = recipe.finish.blend if flow else replace(recipe.finish.blend, flow=0.0)
    held_out = HeldOut.of(slides, embedded, folds)
    layout = held_out.blended(network.held_out, flow.held_out if flow else None, blend, run)
    with run.stage("finish"):
        tissue = tissue_evenness(slides.coords)
        finish = choose_sharpening(layout, *held_out.known, held_out.slide_pcs, tissue, recipe.finish, run)
    with run.stage("expected error"):
        left_out = _left_out(slides, embedded, folds, finish)
        head, ranks, values = _expected_error(left_out, flow.held_out if flow else None, recipe, run)
        errors = [np.interp(value, *head.knots) for value in values]
        better = recipe.uncertainty.with_all_slides(float(np.concatenate(errors).mean()), folds.share_known)
    with run.stage("regions"):
        regions = fit_regions(left_out, errors, recipe.regions, better)
        if flow:
            regions = with_flow(regions, left_out, flow.held_out, recipe.regions, run)
    stages: dict[str, Any] = {"sharpening": finish.sharpening, "regions": regions, "uncertainty": scaled(head, better)}
    model = IPALite(embedded.encoder, network.stage, flow.stage if flow else None, blend, **stages)
    return ModelFit(model, slides[folds.held_out].name, network, finish, ranks)


def fit_iga(
    slides: SlideSet,
    embedded: Embedded,
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: Recipe,
    run: Run,
) -> ModelFit[IGA]:
    """Fit the flow alone, in two dimensions or three.

    In two dimensions, the sharpening of the mean of its samples is chosen on the held-out slide. Arguments are those of
    :func:`fit_ipalite`.
    """
    if recipe.flow is None:
        msg = "A generative model needs recipe.flow, found None: give a FlowRecipe."
        raise ValueError(msg)
    embeddings = [one.embedding for one in embedded.features]
    with run.stage("flow"):
        flow = fit_flow(embeddings, slides.coords, ellipses, folds, recipe.flow, run)
    model = IGA(embedded.encoder, flow.stage)
    if slides.n_dims == 3:  # sharpening is made for sections
        return ModelFit(model, slides[folds.held_out].name, flow, None, {})
    held_out = HeldOut.of(slides, embedded, folds)
    n_tried, n_steps = recipe.flow.n_tried, recipe.flow.n_steps_tried
    drawn = flow.held_out.sample(held_out.features.embedding, n_tried, n_steps=n_steps, run=run)
    tissue = tissue_evenness(slides.coords)
    with run.stage("finish"):
        finish = choose_sharpening(drawn.point("mean"), *held_out.known, held_out.slide_pcs, tissue, recipe.finish, run)
    left_out, blank = _left_out(slides, embedded, folds, finish), recipe.regions.blank(folds.one_section)
    regions = with_flow(blank, left_out, flow.held_out, recipe.regions, run)
    model = replace(model, sharpening=finish.sharpening, regions=regions)
    return ModelFit(model, slides[folds.held_out].name, flow, finish, {})


@dataclass(frozen=True)
class HeldOut:
    """The cells of the held-out slide that choices are made on."""

    features: Features  # cross-fitted
    coords: NDArray[np.float32]  # the truth, (n, 2)
    slide_pcs: NDArray[np.float32]  # (n, p)

    @classmethod
    def of(cls, slides: SlideSet, embedded: Embedded, folds: Folds) -> HeldOut:
        """Those of a fold."""
        slide, cells = slides[folds.held_out], folds.cells[folds.held_out]
        slide_pcs = embedded.encoder.slide_pcs(slide.expression, slides.genes, slide.labels)
        return cls(embedded.features[folds.held_out].rows(cells), slide.coords[cells], slide_pcs[cells])

    @property
    def known(self) -> tuple[Features, NDArray[np.float32]]:
        """Features and the truth."""
        return self.features, self.coords

    def blended(self, network: NetworkLayout, flow: Flow | None, blend: Blend, run: Run) -> NDArray[np.float32]:
        """The layout before sharpening, by stages that were trained without the slide."""
        order = embedding_order(self.features.embedding)  # as prediction orders cells
        features = self.features.rows(order)
        expected = None if flow is None else flow.expected_layout(features.embedding, run)
        layout = blend.apply(network.apply(features.embedding, run)[-1], features.global_features, expected)
        return np.asarray(layout.numpy()[np.argsort(order)])


def _flow_or_none(
    slides: SlideSet,
    embeddings: Sequence[NDArray[np.float32]],
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: Recipe,
    run: Run,
) -> StageFit[Flow] | None:
    """The flow, where the recipe has one; an interruption before its first epoch leaves it out."""
    if recipe.flow is None:
        return None
    try:
        with run.stage("flow"):
            return fit_flow(embeddings, slides.coords, ellipses, folds, recipe.flow, run)
    except KeyboardInterrupt:  # the network is worth keeping
        logger.warning("Interrupted before the end of the flow's first epoch: the model is without one.")
        return None


def _left_out(slides: SlideSet, embedded: Embedded, folds: Folds, finish: Finish) -> LeftOut:
    """The cells of every part that choices are made on."""
    features = [one.rows(cells) for one, cells in zip(embedded.features, folds.cells, strict=True)]
    coords = [slide.coords[cells] for slide, cells in zip(slides, folds.cells, strict=True)]
    names = [slide.name for slide in slides]
    return LeftOut(features, coords, names, folds.held_out, finish.layout, folds.one_section)


def _expected_error(
    known: LeftOut, flow: Flow | None, recipe: Recipe, run: Run
) -> tuple[UncertaintyHead, dict[str, float], list[FloatArray]]:
    """Expected errors, to the scale of the finished held-out slide, and how well they rank true ones.

    With the values of all parts by heads that were fitted without them.
    """
    fit, left = fit_uncertainty(known.features, known.coords, recipe.uncertainty, run), known.held_out
    features, coords = known.features[left], known.coords[left]
    head = scaled_to(fit.head, features, known.finished, coords)
    if flow is None:
        return head, {"uncertainty_spearman": fit.spearman, "certain_half_error": fit.certain_half}, fit.values
    spread = spread_of(flow, features.embedding, head, run.quiet())
    head, ranks = beside_samples(head, fit.values[left], spread, known.finished, coords, recipe.uncertainty)
    return head, ranks, fit.values
