"""Embedding of expression, supervised by the geometry of the training slides."""

from __future__ import annotations

import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import (
    EMBED,
    EMBED_RECORD,
    OVERVIEW_SUFFIX,
    check_distinct,
    check_slide_sizes,
    get_coords,
    get_slides,
    record,
)
from ipar._device import get_device
from ipar._expression import Expression, get_expression, warn_empty_cells
from ipar._seed import as_seed
from ipar.model import IGA, GeometryEncoder, IPALite
from ipar.model._encoder import Inputs
from ipar.model._state import encoder_from_state, encoder_state
from ipar.training._fit_embedding import EmbeddingFit, fit_embedding
from ipar.training._fit_encoder import EncoderRecipe, Slide
from ipar.training._localise import repeated_message

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
    n_folds: int = 3,
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
    neighbourhoods match spatial ones, the other so that embedding distances match true ones. What is written for a
    training slide comes from encoders that never saw that slide's coordinates (cross-fitting), rotated into one space:
    an encoder separates slides it has seen far better than new ones, and a network trained on such embeddings would
    fail on a new slide. The same encoders tell whether the tissue can be localised at all. A set encoder, in which cells
    attend to their whole slide, is trained beside them for :func:`ipar.tl.predict_coords`; its weight there is chosen on
    left-out slides too. More than 2,500 cells in all also train a second one there, which draws the tissue.

    Of 1,000 genes and more, those count most that tell places apart on the training slides, by Moran's I
    (:func:`ipar.training.gene_weights`): most genes of a transcriptome vary without regard to place.

    With ``model``, its encoder embeds the cells of ``adata``; no coordinates are needed or read.

    Parameters
    ----------
    adata
        Annotated data, log-normalised (counts are recognised and normalised on a copy, with a warning).
    library_key
        Categorical column of ``obs`` that tells slides apart. Genes are centred within each slide. Needed for training.
    model
        A fitted model whose encoder is used.
    inputs
        What the encoder reads: ``"pca"`` (components along principal axes and along those of largest spatial covariance, and
        their average over the 20 cells of the slide that are most like it), ``"genes"``, or ``"both"``. By default both,
        unless left-out slides are clearly better placed by one of them; they also say whether 60 or 100 components are read
        (another choice: ``recipe.n_pcs``).
    recipe
        Shapes and training of the networks.
    n_folds
        Groups of slides left out in turn.
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
    ``.obsm[key_added + "_overview"]``
        What tells distances across the slide, float32, ``(n, d)``: the blocks of the embedding that were taught them and the
        set encoder's output at its weight, cross-fitted too, in a space of its own for every slide. By it
        :func:`ipar.tl.fit_ipalite` chooses how a layout is finished (training in two dimensions only).
    ``.uns["ipar_embed"]``
        The encoder as plain arrays, parameters, and the tables of the choices of inputs and components and of the weight
        of the set encoder (training only).
    ``.uns["ipar"]["localisability"]``
        Verdict, mean figures and the table over left-out slides (training only).

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
    random_state = as_seed(random_state)
    adata = adata.copy() if copy else adata
    expression = get_expression(adata, layer=layer, mask_var=mask_var if model is None else None)
    warn_empty_cells(expression)
    if model is not None:
        slides = get_slides(adata, library_key)
        adata.obsm[key_added] = model.encoder.transform(expression.matrix, expression.genes, slides)
        adata.obsm.pop(key_added + OVERVIEW_SUFFIX, None)  # it speaks of the embedding that was just replaced
        if adata.uns.get(EMBED_RECORD, {}).get("use_rep") == key_added:
            del adata.uns[EMBED_RECORD]  # and so does this
        return adata if copy else None
    slides = get_slides(adata, _needed(library_key), minimum=2)
    check_slide_sizes(slides)
    coords = get_coords(adata, spatial_key, dims=(2, 3))
    check_distinct(coords, slides)
    fit = fit_embedding(
        split_slides(expression, coords, slides),
        expression.genes,
        inputs=inputs,
        recipe=recipe,
        n_folds=n_folds,
        random_state=random_state,
        device=get_device(device),
        progress=progress,
    )
    _write(adata, fit, slides, key_added)
    adata.uns[EMBED_RECORD] |= {"library_key": library_key, "spatial_key": spatial_key, "random_state": random_state}
    if layer is not None:
        adata.uns[EMBED_RECORD]["layer"] = layer
    _report(fit)
    return adata if copy else None


def _needed(library_key: str | None) -> str:
    if library_key is None:
        msg = "Training needs library_key, the column of adata.obs that tells the slides apart."
        raise ValueError(msg)
    return library_key


def split_slides(expression: Expression, coords: Any, slides: pd.Categorical) -> list[Slide]:
    """Expression and coordinates slide by slide."""
    rows = [np.flatnonzero(slides == name) for name in slides.categories]
    return [
        Slide(expression.matrix[cells], coords[cells], str(name))
        for name, cells in zip(slides.categories, rows, strict=True)
    ]


def _write(adata: AnnData, fit: EmbeddingFit, slides: pd.Categorical, key_added: str) -> None:
    config, arrays = encoder_state(fit.encoder)
    adata.obsm[key_added] = _joined(fit.cross_fitted, slides)
    adata.obsm.pop(key_added + OVERVIEW_SUFFIX, None)
    if fit.cross_fitted_overview:
        adata.obsm[key_added + OVERVIEW_SUFFIX] = _joined(fit.cross_fitted_overview, slides)
    adata.uns[EMBED_RECORD] = {
        "encoder": {"config": json.dumps(config), "arrays": arrays},
        "inputs": fit.encoder.record["inputs"],
        "choice": fit.choice,
        "overview_choice": fit.overview_choice,
        "use_rep": key_added,
        "slides": np.asarray(slides.categories.astype(str), dtype=object),
    }
    record(adata)["localisability"] = fit.localisability.to_dict() | {"folds": fit.localisability.table()}


def _joined(parts: list[NDArray[np.float32]], slides: pd.Categorical) -> NDArray[np.float32]:
    """Rows of every slide, in the order of the cells."""
    whole = np.empty((len(slides), parts[0].shape[1]), dtype=np.float32)
    for name, part in zip(slides.categories, parts, strict=True):
        whole[np.flatnonzero(slides == name)] = part
    return whole


def _report(fit: EmbeddingFit) -> None:
    message = fit.localisability.message()
    verdict = fit.localisability.to_dict()
    repeat = f" {repeated_message(verdict['two_places'])}" if verdict["repeated"] else ""
    if fit.localisability.localisable:
        logger.info("Localisable: %s.", message)
        if repeat:
            warnings.warn(
                f"Not every part of this tissue can be told apart.{repeat}", LocalisabilityWarning, stacklevel=3
            )
        return
    warnings.warn(
        f"This tissue cannot be localised from expression: {message}. Predicted coordinates would mean nothing. "
        f"See adata.uns['ipar']['localisability'].{repeat}",
        LocalisabilityWarning,
        stacklevel=3,
    )


def stored_encoder(adata: AnnData) -> GeometryEncoder:
    """The encoder that :func:`embed` left in ``uns``."""
    state = adata.uns[EMBED_RECORD]["encoder"]
    return encoder_from_state(json.loads(state["config"]), state["arrays"])
