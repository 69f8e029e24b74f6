"""What ablations share: an encoder fitted on a fold, the layouts it gives, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

import ipar
from benchmarks.ablations.folds import MANY_CELLS
from benchmarks.tasks.embedded import slide_set, unplaced
from benchmarks.tasks.tasks import Slides
from ipar.model import Blend, Features, GeometryEncoder, IPALite, Sharpening
from ipar.model.blend import blend_layouts, global_map
from ipar.model.sharpening import sharpen_layout
from ipar.nn import SharedEncoder
from ipar.training import EncoderRecipe, Recipe, Run, SlideSet
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide

Coords = NDArray[np.float32]
Layouts = Iterator[tuple[str, Coords]]
"""Names of layouts, and the layouts."""

SCORES = {
    "luna_spearman": "LUNA Spearman",
    "knn_hit_20_ratio": "kNN hit@20 ÷ chance",
    "contact_f1_1": "contact F1@1 %",
    "procrustes_rmse": "Procrustes RMSE",
    "evenness_ratio": "evenness ÷ truth",
    "e_geo": "E_geo",
}
SHARPENING = Sharpening(slide_pc_share=0.2)  # as held-out slides of spots choose mostly


def scored(layouts: Layouts, truth: NDArray[np.float64], prefix: str = "") -> dict[str, dict[str, float]]:
    """Scores of every layout."""
    found = {f"{prefix}{name}": ipar.metrics.evaluate(truth, coords, random_state=0) for name, coords in layouts}
    return {name: {key: float(one[key]) for key in SCORES} for name, one in found.items()}


def read(slides: Slides) -> tuple[SlideSet, Slide]:
    """Slides that teach, and the one to place, which has no coordinates."""
    return slide_set(slides.train), unplaced(slides.query)


def fit(
    known: SlideSet, recipe: EncoderRecipe, seed: int, *, trained: Mapping[str, SharedEncoder] | None = None
) -> GeometryEncoder:
    """An encoder of components and genes with its set encoder."""
    return fit_encoder(known, ["both"], recipe, Run(seed), set_encoder=True, trained=trained)["both"]


def sized(recipe: EncoderRecipe, known: SlideSet) -> EncoderRecipe:
    """The recipe with the number of components that held-out slides choose mostly: the most where many cells teach."""
    return replace(recipe, n_pcs=recipe.sizes[-1] if sum(known.sizes) > MANY_CELLS else recipe.sizes[0])


def map_of(encoder: GeometryEncoder, query: Slide) -> Coords:
    """The global map of a query."""
    layout: Coords = global_map(embed_slide(encoder, query).global_features).numpy()
    return layout


def map_and_sharpened(name: str, encoder: GeometryEncoder, query: Slide) -> Layouts:
    """The global map of a query, and the same sharpened."""
    features = embed_slide(encoder, query)
    layout: Coords = global_map(features.global_features).numpy()
    yield name, layout
    yield f"{name}, sharpened", sharpen_layout(layout, features, SHARPENING, slide_pcs_of(encoder, query))


def slide_pcs_of(encoder: GeometryEncoder, query: Slide) -> Coords:
    """Principal components of the query by itself."""
    return encoder.slide_pcs(query.expression, encoder.genes, query.labels)


def fit_model(slides: Slides, seed: int, recipe: Recipe | None = None, *, flow: bool = True) -> IPALite:
    """The documented default, or another recipe."""
    train = slides.train.copy()
    return ipar.tl.fit_ipalite(train, "slide", recipe=recipe, flow=flow, random_state=seed, progress=False)


def blended(first: Coords, second: Coords, share: float) -> Coords:
    """Mean of two layouts, the second turned onto the first, which it is given this share beside."""
    start, other = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (first, second))
    mean: Coords = blend_layouts(start, other, share).numpy()
    return mean


@dataclass(frozen=True)
class Placed:
    """A query as a model places it, stage by stage: what is expensive is computed once.

    Rows stand in the order in which a model draws at random; :meth:`finished` and :meth:`back` give that of the query.
    """

    model: IPALite
    order: NDArray[np.intp]
    features: Features
    slide_pcs: Coords
    network: Coords
    expected: Coords | None

    @classmethod
    def by(cls, model: IPALite, query: Slide, seed: int) -> Placed:
        """Run the network and the flow."""
        features, run = model.features(query.expression, model.encoder.genes, query.labels), Run(seed)
        order = np.lexsort(features.embedding.T[:2])
        features, slide_pcs = features.rows(order), slide_pcs_of(model.encoder, query)[order]
        network = model.network.apply(features.embedding, run)[-1].numpy()
        expected = None if model.flow is None else model.flow.expected_layout(features.embedding, run)
        return cls(model, order, features, slide_pcs, network, expected)

    @property
    def sharpening(self) -> Sharpening:
        """The sharpening that the fit chose; the default, where it chose none."""
        return self.model.sharpening or Sharpening()

    def finished(self, blend: Blend, sharpening: Sharpening | None = None) -> Coords:
        """The layout by these shares, sharpened so."""
        layout = blend.apply(torch.from_numpy(self.network), self.features.global_features, self.expected).numpy()
        return self.back(layout) if sharpening is None else self.sharpened(layout, sharpening)

    def default(self) -> Coords:
        """The layout that the model predicts."""
        return self.finished(self.model.blend, self.model.sharpening)

    def sharpened(self, layout: Coords, sharpening: Sharpening) -> Coords:
        """A layout in the model's order, sharpened."""
        return self.back(sharpen_layout(layout, self.features, sharpening, self.slide_pcs))

    def back(self, layout: Coords) -> Coords:
        """A layout in the model's order, brought to that of the query."""
        return layout[np.argsort(self.order)]
