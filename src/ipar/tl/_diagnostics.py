"""Diagnostics of attention on AnnData."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ipar._anndata import record
from ipar._docs import shared_docs
from ipar._options import Count, Sizes
from ipar._public import public
from ipar._run import Device
from ipar._seeds import as_seed
from ipar.model import IPALite
from ipar.tl._held_out import Draw, read_held_out
from ipar.training.diagnostics import ProbeSet, diagnose

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def attention_diagnostics(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str | None = "spatial",
    layer: str | None = None,
    n_minisets: Count = 12,
    miniset_size: Sizes | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    copy: bool = False,
) -> AnnData | None:
    r"""Measure what a network attends to and why, for every recycle and head.

    Random minisets of every slide pass through the network, which returns its attention, the terms of its logits and its
    layouts. Use slides that the model was not trained on. Coordinates of `adata` are only compared with the attention;
    without them, measures that need them are left out.

    Parameters
    ----------
    adata
        Cells with log-normalised expression.
    %(model)s
    %(library_key)s
    spatial_key
        Key of the coordinates in ``obsm``, if known.
    %(layer)s
    %(minisets)s
    %(run)s
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.uns["ipar"]["diagnostics"]``
        DataFrame of ``slide, measure, recycle, head, value, sd, n_sets``: mean and standard deviation over minisets. Recycles
        and heads count from 1, and 0 stands for all together. Measures:

        - ``attention_recall``, share of true neighbours among the 30 most attended cells, where true neighbours are the
          k = max(20, 0.15 n) nearest in either direction;
        - ``attention_recall_chance``, the share that uniform attention over candidates would have;
        - ``rho_qk``, ``rho_geometry``, ``rho_gate``, ``rho_pair``, Spearman correlation of attention with a term of the
          logits over candidate edges;
        - ``logit_std`` over candidate edges, and ``attention_entropy`` in nats;
        - ``displacement``, :math:`\lVert\Delta X\rVert/\sqrt n` of a recycle in RMS radii;
        - ``offset_query`` and ``offset_key``, mean norms of the offsets of point attention;
        - ``gate_precision`` and ``gate_recall`` of the 30 candidates with the highest gate scores, with recall over all
          true neighbours;
        - ``head_diversity``, 1 − intersection over union of the 30 most attended cells of two heads.

    Raises
    ------
    ValueError
        If there is no model, genes do not match, or coordinates or `n_minisets` are not usable.

    See Also
    --------
    ipar.pl.diagnostics : Heat maps of the result, with healthy ranges.
    """
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    adata = adata.copy() if copy else adata
    spatial_key = spatial_key if spatial_key is not None and spatial_key in adata.obsm else None
    slides = read_held_out(
        adata, model, draw, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device
    )
    network, tables = slides.model.network, []
    total = n_minisets * len(slides.embeddings)
    with tqdm(total=total, desc="diagnostics", unit="miniset", disable=not progress) as bar:
        for name in slides.embeddings:
            table = diagnose(network.net, network.gate, _counted(slides.probes(name), bar))
            table.insert(0, "slide", name)
            tables.append(table)
    record(adata)["diagnostics"] = pd.concat(tables, ignore_index=True)
    return adata if copy else None


def _counted(probes: Iterable[ProbeSet], bar: tqdm[Any]) -> Iterator[ProbeSet]:
    """The same sets, each counted by a bar after it was looked at."""
    for probe in probes:
        yield probe
        bar.update()
