"""Embedding of expression, trained on the geometry of slides."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from ipar._anndata import (
    EMBED,
    EMBED_RECORD,
    GENE_WEIGHT,
    GLOBAL_SUFFIX,
    PART,
    SECTION,
    Keys,
    Source,
    cells_digest,
    embed_record,
    forget_encoder,
    get_slides,
    raw_coords,
    record,
    warn,
)
from ipar._docs import shared_docs
from ipar._expression import Cells, get_expression, given_expression, warn_empty_cells
from ipar._options import AtLeastTwo, Key
from ipar._public import public
from ipar._run import Device, Run, on_device
from ipar._slide_checks import SlideChecks
from ipar.model import IGA, IPALite
from ipar.model.checks import understood
from ipar.model.encoder import Inputs
from ipar.model.given import AnyEncoder, Encoder, GivenEncoder
from ipar.model.io import of_plain, plain
from ipar.model.resemblance import Resemblance
from ipar.training import EncoderRecipe, SlideSet, fit_embedding
from ipar.training.embedding import EmbeddingFit, fit_folds, given_embedding
from ipar.training.folds import Folds
from ipar.training.localise import Localisability, repeated_message

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("ipar")


class LocalisabilityWarning(UserWarning):
    """The tissue cannot be localised, or it looks mirrored or repeated."""


@public
@shared_docs
def embed(
    adata: AnnData,
    library_key: str | None = None,
    *,
    model: IPALite | IGA | None = None,
    use_rep: str | None = None,
    inputs: Inputs | None = None,
    recipe: EncoderRecipe | None = None,
    n_folds: AtLeastTwo | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    key_added: Key = EMBED,
    copy: bool = False,
) -> AnnData | None:
    """Embed cells so that distances in the embedding follow distances in the tissue.

    By default, an encoder is trained on the slides of `adata`, and the held-out slides tell whether the tissue can be
    localised. With `model`, its encoder embeds the cells, and no coordinates are read.

    Parameters
    ----------
    adata
        Annotated data, log-normalised. Slides on another scale are converted on a copy, with a warning: raw counts, or
        slides that differ from each other or from the model's.
    library_key
        Column of ``obs`` with the slide of each cell (default: all cells are one section).
    model
        Fitted model whose encoder is used (default: train an encoder).
    use_rep
        Key of ``obsm`` with an embedding of your own, such as ``"X_scVI"``, to use in place of an encoder (default: train
        one). It is centred and scaled slide by slide.
    inputs
        Input of the encoder: ``"pca"`` (principal and spatial components), ``"genes"``, or ``"both"`` (default: whichever is
        best on held-out slides).
    recipe
        Shapes and training of the networks.
    n_folds
        Groups of slides, or parts of a single section, that are held out in turn (default: 3).
    spatial_key
        Key of the coordinates in ``obsm``, in two or three dimensions. Read for training only.
    %(layer)s
    %(mask_var)s
    %(gene_key)s
    %(run)s
    key_added
        Key of the embedding in ``obsm``.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.obsm[key_added]``
        Embedding, float32, ``(n, 128)`` or ``(n, 192)`` for ``"both"``, with an RMS row norm of about 9.4.
    ``.obsm[key_added + "_global"]``
        Global features, float32, ``(n, d)``, which were trained on distances across the tissue. Each slide has a space of
        its own. Written by training in two dimensions only.
    ``.uns["ipar_embed"]``
        The encoder as plain arrays, parameters, and the tables by which inputs, components and the weight of the set
        encoder were chosen. Written by training only.
    ``.var["ipar_gene_weight"]``
        Weight of every gene in the encoder, float32: the larger, the better the gene tells places apart on the training
        slides. NaN for genes that the encoder does not take. Written by training only, if the encoder has weights.
    ``.uns["ipar"]["localisability"]``
        Verdict, mean figures, and a table over held-out slides. Written by training only.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable.

    Warns
    -----
    LocalisabilityWarning
        If predicted coordinates would mean nothing in this tissue, or if it looks mirrored or repeated.

    Notes
    -----
    One half of the embedding is trained so that its neighbourhoods match spatial ones, the other half so that its distances
    match true ones. The stored embedding of a training slide comes from encoders that never saw its coordinates
    (cross-fitting), rotated into one space.

    References
    ----------
    Local loss: neighbour embedding, Hinton & Roweis (2002). Global loss: metric stress. Averages over neighbours in
    expression as input: Frasca et al., arXiv:2004.11198 (2020). Spatial autocorrelation: Moran (1950).
    """
    run, adata = Run.of(random_state, device, progress), adata.copy() if copy else adata
    if model is not None:
        cells = Cells.read(adata, model, Keys(library_key, layer, gene_key))
        with on_device(model.encoder.modules, run.device):
            adata.obsm[key_added] = model.features(*cells.arrays).embedding
        adata.obsm.pop(key_added + GLOBAL_SUFFIX, None)  # of the embedding that was just replaced
        if embed_record(adata).get("use_rep") == key_added:
            forget_encoder(adata, key_added)
        return adata if copy else None
    recipe = recipe or EncoderRecipe()
    recipe = replace(recipe, inputs=inputs or recipe.inputs, n_folds=recipe.n_folds if n_folds is None else n_folds)
    source = Source(library_key, spatial_key, layer, mask_var, use_rep, gene_key)
    slides = read_slides(adata, source, dims=(2, 3))
    embed_slides(adata, slides, source, recipe, run.planned(recipe.costs), key_added=key_added)
    return adata if copy else None


def read_slides(adata: AnnData, source: Source, *, dims: tuple[int, ...]) -> SlideSet:
    """Read and check training slides."""
    labels = training_slides(adata, source.library_key)
    checks = SlideChecks()
    checks.check_sizes(labels)
    coords = raw_coords(adata, source.spatial_key, dims=dims)
    checks.check_positions(coords, labels)
    if source.given_rep is not None:
        expression = given_expression(adata, source.given_rep)
    else:
        keys: dict[str, Any] = {"layer": source.layer, "mask_var": source.mask_var, "gene_key": source.gene_key}
        expression = get_expression(adata, labels=labels, **keys)
        warn_empty_cells(expression.matrix)
    slides = SlideSet.of(expression.matrix, expression.genes, coords, labels)
    if source.given_rep is None:
        checks.check_expression(slides)
    return slides


def training_slides(adata: AnnData, library_key: str | None) -> pd.Categorical[Any]:
    """Slide of every training cell; without a column, all are of one section of this name."""
    if library_key is None:
        section: pd.Categorical[Any] = pd.Categorical(np.full(adata.n_obs, SECTION))
        return section
    return get_slides(adata, library_key)


def embed_slides(
    adata: AnnData,
    slides: SlideSet,
    source: Source,
    recipe: EncoderRecipe,
    run: Run,
    *,
    key_added: str = EMBED,
    force: bool = True,
) -> None:
    """Fit the encoder on training slides, and write the results of :func:`embed`.

    Without ``force``, what follows the folds takes few steps in a tissue that cannot be localised.
    """
    folds = Folds.for_slides(slides, run, n_folds=recipe.n_folds)
    if source.given_rep is not None:
        fit = given_embedding(slides, folds, GivenEncoder(source.given_rep, len(slides.genes)), run)
        _report(fit.localisability)
    else:
        fit = _fitted(slides, folds, recipe, run, force)
    adata.obsm[key_added] = slides.joined(folds.joined(fit.cross_fitted))
    adata.obsm.pop(key_added + GLOBAL_SUFFIX, None)
    if fit.cross_fitted_global:
        adata.obsm[key_added + GLOBAL_SUFFIX] = slides.joined(folds.joined(fit.cross_fitted_global))
    if PART in adata.obs:
        del adata.obs[PART]
    if folds.one_section:
        adata.obs[PART] = pd.Categorical(slides.joined([folds.part_of_cell + 1]))
    adata.uns[EMBED_RECORD] = {
        "encoder": plain(fit.encoder),
        **({} if fit.resemblance is None else {"resemblance": plain(fit.resemblance)}),
        "inputs": fit.encoder.record.get("inputs", source.given_rep),
        "choice": fit.choice,
        "weight_choice": fit.weight_choice,
        "use_rep": key_added,
        "slides": np.array([slide.name for slide in slides], dtype=object),
        "cells_digest": cells_digest(adata),
        "random_state": run.seed,
        **{name: value for name, value in asdict(source).items() if value is not None},
    }
    _write_gene_weights(adata, fit.encoder, source.mask_var)
    record(adata)["localisability"] = fit.localisability.to_dict() | {"folds": fit.localisability.table()}


def _write_gene_weights(adata: AnnData, encoder: Encoder, mask_var: str | None) -> None:
    """Write the weights of genes to ``var``, or remove those of another encoder."""
    scale = getattr(encoder, "gene_scale", None)
    if scale is not None:
        taken = np.ones(adata.n_vars, dtype=bool) if mask_var is None else adata.var[mask_var].to_numpy(dtype=bool)
        weights = np.full(adata.n_vars, np.nan, dtype=np.float32)
        weights[taken] = scale
        adata.var[GENE_WEIGHT] = weights
    elif GENE_WEIGHT in adata.var:
        del adata.var[GENE_WEIGHT]


def _fitted(slides: SlideSet, folds: Folds, recipe: EncoderRecipe, run: Run, force: bool) -> EmbeddingFit:
    """Folds and the encoder, which takes few steps in a tissue that cannot be localised, unless forced."""
    with run.stage("folds"):
        known = fit_folds(slides, folds, recipe, run)
    _report(known.localisability)
    if not (force or known.localisability.localisable):
        recipe = recipe.hurried()
    with run.stage("encoder"):
        return fit_embedding(slides, folds, recipe, run, known)


def _report(localisability: Localisability) -> None:
    """Log that the tissue can be localised, or warn."""
    message, verdict = localisability.message(), localisability.to_dict()
    repeat = f" {repeated_message(verdict['two_places'])}" if verdict["repeated"] else ""
    if not localisability.localisable:
        warn(
            f"This tissue cannot be localised from expression: {message}. Predicted coordinates would mean nothing. "
            f"See adata.uns['ipar']['localisability'].{repeat}",
            LocalisabilityWarning,
        )
        return
    logger.info("Localisable: %s.", message)
    if repeat:
        warn(f"Parts of this tissue cannot be told apart.{repeat}", LocalisabilityWarning)


def stored_encoder(adata: AnnData) -> Encoder:
    """The encoder that :func:`embed` stored."""
    with understood("The encoder in adata.uns['ipar_embed']", "call ipar.pp.embed again"):
        state = adata.uns[EMBED_RECORD]["encoder"]
        return cast(Encoder, of_plain(AnyEncoder, state))


def stored_resemblance(adata: AnnData) -> Resemblance | None:
    """What :func:`embed` stored of left-out cells, if anything."""
    with understood("What is kept of left-out cells in adata.uns['ipar_embed']", "call ipar.pp.embed again"):
        state = adata.uns[EMBED_RECORD].get("resemblance")
        return None if state is None else cast(Resemblance, of_plain(Resemblance, state))
