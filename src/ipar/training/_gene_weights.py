"""How much every gene counts: by how well it tells places apart on the training slides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ipar._steps import FEW_FEATURES
from ipar.graph import morans_i

_POWER = 0.5  # a quarter and three quarters place a left-out section less well (benchmarks/levers.md)
_LEAST_I = 1e-3  # where nothing is spatial, all genes count alike
_LEAST_SPREAD = 0.1  # of the overall one: rare transcripts are not blown up


def gene_weights(
    slides: Sequence[NDArray[np.float32]], coords: Sequence[NDArray[np.float32]], by_place: bool | None = None
) -> NDArray[np.float32]:
    r"""What centred genes are multiplied by before anything is computed from them.

    .. math:: w_g \propto \sqrt{\max(I_g, 0.001)} / \max(s_g, 0.1 s)

    with Moran's :math:`I_g`, mean over the slides, :math:`s_g` the standard deviation of the gene within slides, and
    :math:`s` that of all genes. Most genes of a transcriptome vary from cell to cell without regard to place, and together
    they drown those that have territories; weighted so, the principal components of a slide that no one has seen the
    places of hold more of its true neighbours, and encoders place sections that were left out better (``benchmarks/levers.md``).
    The genes of a panel of fewer than 1,000 were chosen because they tell cells apart: they count as they are.

    Parameters
    ----------
    slides
        Expression centred within every training slide, ``(n_s, n_genes)``.
    coords
        Coordinates, ``(n_s, 2)`` or ``(n_s, 3)``.
    by_place
        Whether genes are weighted so, or all alike; where there are 1,000 or more, if None.

    Returns
    -------
    NDArray
        ``(n_genes,)``, so that weighted genes have a mean square of 1 over all cells and genes.
    """
    square = sum(np.square(x).sum(axis=0) for x in slides) / sum(map(len, slides))
    weights = np.ones(slides[0].shape[1], dtype=np.float32)
    if len(weights) >= FEW_FEATURES if by_place is None else by_place:
        structure = np.mean([morans_i(x, places) for x, places in zip(slides, coords, strict=True)], axis=0)
        spread = np.maximum(np.sqrt(square), _LEAST_SPREAD * np.sqrt(square.mean()))
        weights = np.maximum(structure, _LEAST_I) ** _POWER / np.maximum(spread, np.finfo(np.float32).tiny)
    overall = float(np.sqrt(np.mean(np.square(weights) * square)))
    scaled: NDArray[np.float32] = (weights / max(overall, 1e-12)).astype(np.float32)
    return scaled
