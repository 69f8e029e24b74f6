"""Embedding of expression, supervised by the geometry of the training slides."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ipar._anndata import (
    EMBED,
    EMBED_RECORD,
    GLOBAL_SUFFIX,
    Source,
    check_distinct,
    check_slide_sizes,
    get_coords,
    get_slides,
    record,
)
from ipar._expression import get_expression, warn_empty_cells
from ipar._run import Run, on_device
from ipar.model import IGA, GeometryEncoder, IPALite
from ipar.model.encoder import Inputs
from ipar.training import EncoderRecipe, SlideSet, fit_embedding
from ipar.training.embedding import EmbeddingFit
from ipar.training.folds import Folds
from ipar.training.localise import repeated_message
from ipar.training.slides import joined

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("ipar")


class LocalisabilityWarning(UserWarning):
    """Predicted coordinates would mean nothing in this tissue."""


def embed(
    adata: AnnData,
    library_key: str | None = None,
    *,
    model: IPALite | IGA | None = None,
    inputs: Inputs | None = None,
    recipe: EncoderRecipe | None = None,
    n_folds: int | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    key_added: str = EMBED,
    copy: bool = False,
) -> AnnData | None:
    """Embed cells so that distances in the embedding follow distances in the tissue.

    Without ``model``, an encoder is trained on the slides of ``adata``: one half of its output so that embedding
    neighbourhoods match spatial ones, the other so that embedding distances match true ones. The embedding that is written
    for a training slide comes from encoders that never saw that slide's coordinates (cross-fitting), rotated into one
    space. The same encoders tell whether the tissue can be localised at all.

    With ``model``, its encoder embeds the cells of ``adata``; no coordinates are needed or read.

    Parameters
    ----------
    adata
        Annotated data, log-normalised. Counts are recognised and normalised on a copy, with a warning.
    library_key
        Categorical column of ``obs`` that tells slides apart; needed for training.
    model
        A fitted model whose encoder is used.
    inputs
        What the encoder reads: ``"pca"`` (principal and spatial components), ``"genes"``, or ``"both"``. If None, the
        slides left out decide.
    recipe
        Shapes and training of the networks.
    n_folds
        Groups of slides that are left out in turn; the recipe's (3), if None.
    spatial_key
        Key of the coordinates in ``obsm``, in two or three dimensions, read for training only.
    layer
        Layer with log-normalised expression; ``X``, if None.
    mask_var
        Boolean column of ``var`` that selects genes, for example ``"highly_variable"``; all genes, if None.
    random_state
        Seed. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show a progress bar.
    key_added
        Key of the embedding in ``obsm``.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes

    ``.obsm[key_added]``
        Embedding, float32, ``(n, 128)`` or ``(n, 192)`` for ``"both"``; RMS row norm about 9.4.
    ``.obsm[key_added + "_global"]``
        Global features, float32, ``(n, d)``: features that were taught distances across the tissue, cross-fitted too, in a
        space of its own for every slide (training in two dimensions only).
    ``.uns["ipar_embed"]``
        The encoder as plain arrays, parameters, and the tables by which inputs, components and the weight of the set
        encoder were chosen (training only).
    ``.uns["ipar"]["localisability"]``
        Verdict, mean figures and the table over slides left out (training only).

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable; the message names the remedy.

    Warns
    -----
    LocalisabilityWarning
        If predicted coordinates would mean nothing in this tissue, or it looks mirrored or repeated; the message has the
        figures.

    References
    ----------
    The local term is the neighbour-embedding loss of Hinton & Roweis (2002), the global one metric stress. Averages over
    neighbours in expression as input features: Frasca et al., arXiv:2004.11198 (2020). Spatial autocorrelation: Moran (1950).
    """
    run = Run.of(random_state, device, progress)
    adata = adata.copy() if copy else adata
    if model is not None:
        expression = get_expression(adata, layer=layer)
        warn_empty_cells(expression)
        labels = get_slides(adata, library_key)
        with on_device(model.encoder.modules, run.device):
            adata.obsm[key_added] = model.encoder.transform(expression.matrix, expression.genes, labels)
        adata.obsm.pop(key_added + GLOBAL_SUFFIX, None)  # it speaks of the embedding that was just replaced
        if adata.uns.get(EMBED_RECORD, {}).get("use_rep") == key_added:
            del adata.uns[EMBED_RECORD]  # and so does this
        return adata if copy else None
    if library_key is None:
        msg = "Training needs library_key, the column of adata.obs that tells the slides apart."
        raise ValueError(msg)
    recipe = recipe or EncoderRecipe()
    recipe = replace(recipe, inputs=inputs or recipe.inputs, n_folds=recipe.n_folds if n_folds is None else n_folds)
    source = Source(library_key, spatial_key, layer, mask_var)
    slides, labels = read_slides(adata, source, dims=(2, 3))
    embed_slides(adata, slides, labels, source, recipe, run, key_added=key_added)
    return adata if copy else None


def read_slides(adata: AnnData, source: Source, *, dims: tuple[int, ...]) -> tuple[SlideSet, pd.Categorical]:
    """Training slides as arrays, and the slide of every cell.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable; the message names the remedy.
    """
    labels = get_slides(adata, source.library_key, minimum=2)
    check_slide_sizes(labels)
    coords = get_coords(adata, source.spatial_key, dims=dims)
    check_distinct(coords, labels)
    expression = get_expression(adata, layer=source.layer, mask_var=source.mask_var)
    warn_empty_cells(expression)
    return SlideSet.of(expression.matrix, expression.genes, coords, labels), labels


def embed_slides(
    adata: AnnData,
    slides: SlideSet,
    labels: pd.Categorical,
    source: Source,
    recipe: EncoderRecipe,
    run: Run,
    *,
    key_added: str = EMBED,
) -> None:
    """Fit the encoder on training slides and write what :func:`embed` writes."""
    folds = Folds.of(slides.sizes, run, n_folds=recipe.n_folds)
    fit = fit_embedding(slides, folds, recipe, run)
    config, arrays = fit.encoder.state()
    adata.obsm[key_added] = joined(fit.cross_fitted, labels)
    adata.obsm.pop(key_added + GLOBAL_SUFFIX, None)
    if fit.cross_fitted_global:
        adata.obsm[key_added + GLOBAL_SUFFIX] = joined(fit.cross_fitted_global, labels)
    adata.uns[EMBED_RECORD] = {
        "encoder": {"config": json.dumps(config), "arrays": arrays},
        "inputs": fit.encoder.record["inputs"],
        "choice": fit.choice,
        "weight_choice": fit.weight_choice,
        "use_rep": key_added,
        "slides": np.asarray(labels.categories.astype(str), dtype=object),
        "random_state": run.seed,
        **{name: value for name, value in asdict(source).items() if value is not None},
    }
    record(adata)["localisability"] = fit.localisability.to_dict() | {"folds": fit.localisability.table()}
    _report(fit)


def _report(fit: EmbeddingFit) -> None:
    message = fit.localisability.message()
    verdict = fit.localisability.to_dict()
    repeat = f" {repeated_message(verdict['two_places'])}" if verdict["repeated"] else ""
    if fit.localisability.localisable:
        logger.info("Localisable: %s.", message)
        if repeat:
            warnings.warn(
                f"Not every part of this tissue can be told apart.{repeat}", LocalisabilityWarning, stacklevel=4
            )
        return
    warnings.warn(
        f"This tissue cannot be localised from expression: {message}. Predicted coordinates would mean nothing. "
        f"See adata.uns['ipar']['localisability'].{repeat}",
        LocalisabilityWarning,
        stacklevel=4,
    )


def stored_encoder(adata: AnnData) -> GeometryEncoder:
    """The encoder that :func:`embed` left in ``uns``."""
    state = adata.uns[EMBED_RECORD]["encoder"]
    return GeometryEncoder.from_state(json.loads(state["config"]), state["arrays"])
