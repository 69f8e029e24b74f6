"""What fits read from an AnnData, and what they write to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import EMBED, EMBED_RECORD, GLOBAL_SUFFIX, RECORD, Source, get_slides, record
from ipar.graph.neighbors import cells_by_slide
from ipar.model import IGA, Features, IPALite
from ipar.pp._ellipses import neighbor_ellipses
from ipar.pp._embed import embed_slides, read_slides, stored_encoder
from ipar.training import EncoderRecipe, SlideSet
from ipar.training.fit import Embedded, Model, ModelFit
from ipar.training.slides import Slide

if TYPE_CHECKING:
    from anndata import AnnData

    from ipar._run import Run


@dataclass(frozen=True)
class Training:
    """Training slides, the slide of every cell, and encoder and cross-fitted features."""

    slides: SlideSet
    labels: pd.Categorical
    embedded: Embedded


def read_training(
    adata: AnnData,
    source: Source,
    recipe: EncoderRecipe,
    run: Run,
    *,
    dims: tuple[int, ...] = (2,),
    force: bool = True,
) -> Training:
    """Read training slides, and embed them if the embedding is missing."""
    known = is_embedded(adata, source.library_key)
    if known:
        source = replace(source, layer=source.layer or adata.uns[EMBED_RECORD].get("layer"), mask_var=None)
    slides, labels = read_slides(adata, source, dims=dims)
    if not known:
        embed_slides(adata, slides, labels, source, recipe, run, force=force)
    return Training(slides, labels, read_embedded(adata, labels))


def is_embedded(adata: AnnData, library_key: str) -> bool:
    """Whether the stored encoder was trained on these slides and gave the stored embedding."""
    found = adata.uns.get(EMBED_RECORD, {})
    if EMBED not in adata.obsm or found.get("library_key") != library_key or found.get("use_rep") != EMBED:
        return False
    return set(found.get("slides", ())) == set(get_slides(adata, library_key).categories.astype(str))


def read_embedded(adata: AnnData, labels: pd.Categorical) -> Embedded:
    """The stored encoder and the features of every slide."""
    encoder = stored_encoder(adata)
    embedding = np.asarray(adata.obsm[EMBED], dtype=np.float32)
    kept = adata.obsm.get(EMBED + GLOBAL_SUFFIX)  # none in three dimensions
    across = embedding[:, encoder.global_columns] if kept is None else np.asarray(kept, dtype=np.float32)
    return Embedded(encoder, [Features(embedding, across).rows(cells) for cells in cells_by_slide(labels, len(labels))])


def slide_ellipses(slide: Slide, n_neighbors: int = 10) -> NDArray[np.float32]:
    """Ellipses from the covariance of each cell's nearest neighbours in the tissue."""
    return neighbor_ellipses(slide.coords, slide.labels, n_neighbors).astype(np.float32)


def with_record(adata: AnnData, fit: ModelFit[Model], library_key: str, run: Run) -> tuple[Model, dict[str, Any]]:
    """The fitted model with its record, and the settings that every record of a fit has."""
    settings = {"random_state": run.seed, "library_key": library_key, "validation_slide": fit.held_out}
    known = {"localisability": verdict(adata), "best_epoch": fit.stage.best_epoch}
    return replace(fit.model, record=known | settings), settings


def write_fit(adata: AnnData, model: IPALite | IGA, fit: ModelFit[Any], settings: dict[str, Any]) -> None:
    """Write history, settings and the model as plain values."""
    config, arrays = model.state()
    written = record(adata)
    written["history"], written["history_best"] = fit.stage.history, fit.stage.best_epoch
    chosen = {} if fit.finish is None else {"finish": fit.finish.table}
    written["fit"] = {**settings, **fit.ranks, **chosen}
    written["model"] = {"format": model.kind, "config": json.dumps(config), "arrays": arrays}


def verdict(adata: AnnData) -> dict[str, Any]:
    """Whether the tissue can be localised, as plain values for the model's record."""
    found = adata.uns.get(RECORD, {}).get("localisability", {})
    # values read from a file are numpy scalars
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items() if k != "folds"}
