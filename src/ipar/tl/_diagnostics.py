"""Diagnostics of attention on AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ipar._anndata import record
from ipar._run import as_seed
from ipar.model import IPALite
from ipar.tl._held_out import N_MINISETS, Draw, read_held_out
from ipar.training.diagnostics import diagnose

if TYPE_CHECKING:
    from anndata import AnnData


def attention_diagnostics(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str | None = "spatial",
    layer: str | None = None,
    n_minisets: int = N_MINISETS,
    miniset_size: tuple[int, int] | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    copy: bool = False,
) -> AnnData | None:
    r"""Measure, recycle by recycle and head by head, what a network attends to and why.

    Random minisets of every slide go through the network's own forward pass, which gives up its attention, the terms of
    its logits and its layouts. Give slides that the model was not trained on: on its own it looks better than it is.
    Coordinates of ``adata`` are compared with the attention and change nothing: where they are unknown, what needs them
    has no row, and all else is the same.

    Parameters
    ----------
    adata
        Cells with log-normalised expression.
    model
        A fitted model; the one that was fitted on this very AnnData, if None.
    library_key
        Column of ``obs`` that tells slides apart; all cells are one slide, if None.
    spatial_key
        Key of true coordinates in ``obsm``. They count as unknown where it is missing or None.
    layer
        Layer with log-normalised expression; ``X``, if None.
    n_minisets
        Random subsets of each slide.
    miniset_size
        Smallest and largest of them; as in the model's training, if None.
    random_state
        Seed of the subsets. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show a bar.
    copy
        Return a changed copy instead of writing in place.

    Returns
    -------
    None, or the copy. Writes

    ``.uns["ipar"]["diagnostics"]``
        DataFrame of ``slide, measure, recycle, head, value, sd, n_sets``: mean and standard deviation over minisets, one
        row a measure, recycle and head, both counted from 1; 0 stands for all of them together. Measures:

        - ``attention_recall``, share of the 30 most attended cells that are true neighbours in the target graph (the
          union of both directions of the k = max(20, 0.15 n) nearest), and ``attention_recall_chance``, the share of
          true neighbours among candidates, which uniform attention would have;
        - ``rho_qk``, ``rho_geometry``, ``rho_gate``, ``rho_pair``, Spearman correlation of attention with a term of the
          logits over candidate edges, for the terms that the network has and that are not constant;
        - ``logit_std`` over candidate edges and ``attention_entropy`` in nats;
        - ``displacement``, :math:`\lVert\Delta X\rVert/\sqrt n` of a recycle in RMS radii;
        - ``offset_query`` and ``offset_key``, mean norms of the offsets of point attention;
        - ``gate_precision`` and ``gate_recall`` of the 30 candidates that the gate scores highest, recall of all true
          neighbours, candidates or not;
        - ``head_diversity``, 1 − intersection over union of a head's 30 most attended cells with another's.

    Raises
    ------
    ValueError
        If no model is given or stored, genes do not match, coordinates are not usable, or no minisets are asked for.

    See Also
    --------
    ipar.pl.diagnostics : Heat maps of the result, with healthy ranges.
    """
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    adata = adata.copy() if copy else adata
    known = spatial_key is not None and spatial_key in adata.obsm
    slides = read_held_out(
        adata, model, library_key=library_key, spatial_key=spatial_key if known else None, layer=layer, device=device
    )
    tables = []
    total = n_minisets * len(slides.embeddings)
    with tqdm(total=total, desc="diagnostics", unit="miniset", disable=not progress) as bar:
        for name in slides.embeddings:
            probes = (bar.update() or probe for probe in slides.probes(name, draw))
            table = diagnose(slides.model.network.net, slides.model.network.gate, probes)
            table.insert(0, "slide", name)
            tables.append(table)
    record(adata)["diagnostics"] = pd.concat(tables, ignore_index=True)
    return adata if copy else None
