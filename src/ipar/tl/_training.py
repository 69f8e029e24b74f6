"""What fits read from an AnnData, and what they write to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import (
    EMBED,
    EMBED_RECORD,
    GLOBAL_SUFFIX,
    PART,
    Source,
    cells_digest,
    embed_record,
    raw_coords,
    record,
    stored_record,
)
from ipar.model import IGA, Features, IPALite
from ipar.model.genes import order_genes
from ipar.model.given import Encoder
from ipar.model.loading import plain_model
from ipar.model.reference import Reference
from ipar.model.scale import ExpressionScale
from ipar.pp._ellipses import neighbor_ellipses
from ipar.pp._embed import embed_slides, read_slides, stored_encoder, stored_resemblance, training_slides
from ipar.training import Folds, Recipe, SlideSet
from ipar.training.fit import Embedded, Model, ModelFit
from ipar.training.held_out import StageRecipe

if TYPE_CHECKING:
    from anndata import AnnData

    from ipar._run import Run


@dataclass(frozen=True)
class Training:
    """What a fit reads of an AnnData.

    Attributes
    ----------
    slides
        Training slides.
    folds
        What is held out of what.
    embedded
        The encoder and cross-fitted features of every part of the folds.
    """

    slides: SlideSet
    folds: Folds
    embedded: Embedded

    @property
    def parts(self) -> SlideSet:
        """Every part of the folds as a slide."""
        return self.folds.split(self.slides)

    def ellipses(self, table: NDArray[np.float32] | None = None, n_neighbors: int = 10) -> list[NDArray[np.float32]]:
        """Ellipses of the cells of every part: of a table of all cells, or from their nearest neighbours in the tissue."""
        if table is not None:
            return [table[self.slides.rows[part.slide][part.rows]] for part in self.folds.parts]
        found = [neighbor_ellipses(one.coords, one.labels, n_neighbors).astype(np.float32) for one in self.slides]
        return [found[part.slide][part.rows] for part in self.folds.parts]


def read_training(
    adata: AnnData,
    source: Source,
    recipe: Recipe,
    stages: Sequence[StageRecipe | None],
    run: Run,
    *,
    dims: tuple[int, ...] = (2,),
    force: bool = True,
) -> Training:
    """Read training slides, and embed them if the embedding is missing; then some stages of the recipe are trained."""
    known = is_embedded(adata, source.library_key, source.given_rep)
    if known:
        found = adata.uns[EMBED_RECORD]
        stored = {key: getattr(source, key) or found.get(key) for key in ("layer", "gene_key")}
        source = replace(source, **stored, mask_var=None, given_rep=found.get("given_rep"))
    slides = read_slides(adata, source, dims=dims)
    for stage in stages:
        if stage is not None:
            stage.check_slides(len(slides) if len(slides) > 1 else recipe.embed.n_folds)
    if not known:
        embed_slides(adata, slides, source, recipe.embed, run, force=force)
    folds = Folds.for_slides(slides, run, part=stored_parts(adata, slides), most_cells=recipe.most_cells)
    encoder, features = read_embedded(adata)
    own = [features.rows(slides.rows[part.slide][part.rows]) for part in folds.parts]
    return Training(slides, folds, Embedded(encoder, own))


def is_embedded(adata: AnnData, library_key: str | None, given_rep: str | None = None) -> bool:
    """Whether the stored encoder was trained on these cells, or took this embedding, and gave the stored embedding."""
    found = embed_record(adata)
    if EMBED not in adata.obsm or found.get("library_key") != library_key or found.get("use_rep") != EMBED:
        return False
    if given_rep is not None and found.get("given_rep") != given_rep:
        return False
    digest = cells_digest(adata)
    if found.get("cells_digest", digest) != digest:  # others, or fewer
        return False
    names = set(training_slides(adata, library_key).categories.astype(str))
    return set(found.get("slides", ())) == names and (len(names) > 1 or PART in adata.obs)


def stored_parts(adata: AnnData, slides: SlideSet) -> NDArray[np.int64] | None:
    """The parts that a section was cut into when it was embedded; None for several slides."""
    if len(slides) > 1:
        return None
    return np.asarray(adata.obs[PART].cat.codes, dtype=np.int64)[slides.rows[0]]


def read_embedded(adata: AnnData) -> tuple[Encoder, Features]:
    """The stored encoder and the cross-fitted features of all cells."""
    encoder = stored_encoder(adata)
    embedding = np.asarray(adata.obsm[EMBED], dtype=np.float32)
    kept = adata.obsm.get(EMBED + GLOBAL_SUFFIX)  # none in three dimensions
    across = embedding[:, encoder.global_columns] if kept is None else np.asarray(kept, dtype=np.float32)
    return encoder, Features(embedding, across)


def reference_of(adata: AnnData, known: Training, spatial_key: str) -> Reference:
    """The training slides, kept small, their cells in the order of the data: maps onto them have it."""
    coords = raw_coords(adata, spatial_key)
    parts = [coords[rows] for rows in known.slides.rows]
    expression = [slide.expression for slide in known.slides]
    names, oriented = [slide.name for slide in known.slides], float(verdict(adata).get("oriented", 1.0))
    found = Reference.of(known.embedded.encoder, expression, parts, names, oriented)
    back = [np.argsort(rows) for rows in known.slides.rows]
    return replace(found, slides=tuple(one.rows(order) for one, order in zip(found.slides, back, strict=True)))


def scale_of(known: Training) -> ExpressionScale | None:
    """How the training slides were normalised; None where an embedding was given."""
    encoder = known.embedded.encoder
    if encoder.use_rep is not None:
        return None
    return ExpressionScale.of([order_genes(one.expression, known.slides.genes, encoder.genes) for one in known.slides])


def with_record(
    adata: AnnData, fit: ModelFit[Model], known: Training, library_key: str | None, run: Run
) -> tuple[Model, dict[str, Any]]:
    """The fitted model with what it keeps of the data, and the settings that every record of a fit has."""
    settings = {"random_state": run.seed, "validation_slide": fit.held_out}
    settings |= {"library_key": library_key} if library_key else {}
    written = {"localisability": verdict(adata), "best_epoch": fit.stage.best_epoch}
    model = replace(fit.model, scale=scale_of(known), resemblance=stored_resemblance(adata), record=written | settings)
    return model, settings


def write_fit(adata: AnnData, model: IPALite | IGA, fit: ModelFit[Any], settings: dict[str, Any]) -> None:
    """Write history, settings and the model as plain values."""
    written = record(adata)
    written["history"], written["history_best"] = fit.stage.history, fit.stage.best_epoch
    chosen = {} if fit.finish is None else {"finish": fit.finish.table}
    written["fit"] = {**settings, **fit.ranks, **chosen, **fit.stage.checks}
    written["model"] = plain_model(model)


def verdict(adata: AnnData) -> dict[str, Any]:
    """Whether the tissue can be localised, as plain values for the model's record."""
    found = stored_record(adata, "localisability")
    # values read from a file are numpy scalars
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items() if k != "folds"}
