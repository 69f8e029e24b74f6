"""A model for cells of another technology."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipar._anndata import Keys
from ipar._docs import shared_docs
from ipar._expression import Cells
from ipar._public import public
from ipar._run import Device, get_device, on_device
from ipar.model import IPALite
from ipar.model.adapter import Adapter
from ipar.model.given import GivenEncoder

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def adapt(
    model: IPALite, cells: AnnData, *, layer: str | None = None, gene_key: str | None = None, device: Device = "auto"
) -> IPALite:
    """Adapt a model to dissociated cells, or to another technology.

    Every gene is shifted and scaled towards the training slides. The shift is found on states that the cells share with the
    slides, so that cells of other composition keep what sets them apart. Coordinates play no part.

    Predictions centre every query on shared states by themselves, so that an adapter adds the scale, and the shift of a whole
    data set where only a part of it is placed, such as one cell type. What it brings is small, and in either direction:
    the docs compare placements with and without one.

    Parameters
    ----------
    model
        Fitted model with a reference.
    cells
        Cells of the technology, log-normalised: the more of its cell types, the better.
    %(layer)s
    %(gene_key)s
    device
        ``"auto"`` (CUDA if available, else CPU) or a torch device.

    Returns
    -------
    IPALite
        The same model with an adapter. Cells whose mean expression is nearer to that of `cells` than to that of the training
        slides pass through it. Slides do not, and their embedding stays the same to the last bit.

    Raises
    ------
    ValueError
        If the model keeps no reference, reads an embedding of the user's, or fewer than half of its genes are in `cells`.
    """
    if model.reference is None:
        msg = "The model keeps no reference to adapt to: fit it with keep_reference=True."
        raise ValueError(msg)
    if isinstance(model.encoder, GivenEncoder):
        msg = f"The model reads obsm[{model.encoder.use_rep!r}]: correct that embedding for technology by its own tool."
        raise ValueError(msg)
    matrix, genes, _ = Cells.read(cells, model, Keys(None, layer, gene_key)).arrays
    with on_device(model.encoder.modules, get_device(device)):
        adapter = Adapter.of(model.encoder, model.reference, model.centring, matrix, genes)
    return replace(model, adapter=adapter, record=model.record | {"adapter": {"n_cells": cells.n_obs}})
