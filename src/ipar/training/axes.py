"""Axes of expression, along which cells differ much and along which neighbours are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from ipar.graph import morans_i
from ipar.graph.averages import spatial_average


@dataclass(frozen=True)
class AxisSpace:
    r"""Principal axes of training slides and axes of largest spatial covariance, of which any number can be taken.

    Principal axes hold what differs most between cells, whether it has a place or not. Spatial axes are the :math:`a` that
    maximise

    .. math:: \sum_s (X_s a)^\top W_s X_s a, \quad \lVert a \rVert = 1,

    one perpendicular to the other, where :math:`W_s` averages over the 8 cells that are nearest in the tissue: a component's
    variance times its Moran's I. On a new slide, more of the cells next to each other along them are true neighbours.
    From both together, encoders place held-out sections better than from either (``benchmarks/ablations.md``).

    Attributes
    ----------
    principal, spatial
        Unit vectors, ``(n_genes, p)`` and ``(n_genes, q)``, those of largest variance and of largest spatial covariance first.
    principal_std, spatial_std
        Standard deviation of the cells along them.

    References
    ----------
    Dray, Saïd & Débias, Spatial ordination of vegetation data using a generalization of Wartenberg's multivariate spatial
    correlation (MULTISPATI), Journal of Vegetation Science 19 (2008).
    """

    principal: NDArray[np.float32]
    spatial: NDArray[np.float32]
    principal_std: NDArray[np.float32]
    spatial_std: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        slides: Sequence[NDArray[np.float32]],
        coords: Sequence[NDArray[np.float32]],
        n_axes: int,
        *,
        spatial_share: float = 0.5,
        subspace: int = 500,
        random_state: int = 0,
    ) -> AxisSpace:
        """Find as many as ``n_axes`` need.

        Parameters
        ----------
        slides
            Expression centred within every training slide, ``(n_s, n_genes)``.
        coords
            Coordinates, ``(n_s, 2)`` or ``(n_s, 3)``.
        n_axes
            How many in all; fewer, where slides have fewer cells or genes.
        spatial_share
            Share of them that are spatial; with 0, all are principal.
        subspace
            Principal axes that spatial ones are sought among: 200 find fewer true neighbours, all of them hardly more.
        random_state
            Seed of the decomposition.
        """
        stacked = np.concatenate(slides)
        rank = min(d - 1 for d in stacked.shape)
        n_axes = min(n_axes, rank)
        n_spatial = int(n_axes * spatial_share)
        size = min(max(subspace, n_axes), rank) if n_spatial else n_axes
        _, singular, found = randomized_svd(stacked, size, random_state=random_state)
        kept = found.T[:, singular > 1e-4 * singular[0]]  # in the rest, any axis would do
        principal = np.ascontiguousarray(found.T[:, :n_axes])
        spatial = _spatial_axes(slides, coords, kept, n_spatial)
        return cls(principal, spatial, (stacked @ principal).std(axis=0), (stacked @ spatial).std(axis=0))

    def loadings(self, n_axes: int, *, spatial_share: float = 0.5, power: float = 0.0) -> NDArray[np.float32]:
        """The first axes of either kind, principal ones first, ``(n_genes, n_axes)``.

        Components are divided by a ``power`` of their standard deviation, far below 1: whitening would blow up the noise of the
        last ones. Those of each kind then have unit variance overall.
        """
        n_axes = min(n_axes, self.principal.shape[1])
        n_spatial = int(n_axes * spatial_share)
        n_principal = n_axes - n_spatial
        kinds = [
            _scaled(self.principal[:, :n_principal], self.principal_std[:n_principal], power),
            _scaled(self.spatial[:, :n_spatial], self.spatial_std[:n_spatial], power),
        ]
        return np.concatenate([axes for axes in kinds if axes.size], axis=1)


def _spatial_axes(
    slides: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    subspace: NDArray[np.float32],
    n_axes: int,
) -> NDArray[np.float32]:
    covariance = np.zeros((subspace.shape[1],) * 2, dtype=np.float64)
    for x, places in zip(slides, coords, strict=True):
        components = x @ subspace
        covariance += components.T @ (spatial_average(places) @ components)
    _, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    axes: NDArray[np.float32] = subspace @ vectors[:, ::-1][:, :n_axes].astype(np.float32)
    return axes


def _scaled(axes: NDArray[np.float32], std: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Axes divided by a power of the standard deviations along them, so that the components have unit variance overall."""
    divisor = np.maximum(std, 1e-12) ** power
    scale = max(float(np.sqrt(np.mean(np.square(std / divisor)))) if std.size else 1.0, 1e-12)
    scaled: NDArray[np.float32] = (axes / (divisor * scale)).astype(np.float32)
    return scaled


def gene_weights(
    slides: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    by_place: bool = True,
    *,
    power: float = 0.5,
    least_i: float = 1e-3,
    least_spread: float = 0.1,
) -> NDArray[np.float32]:
    r"""What centred genes are multiplied by before anything is computed from them.

    .. math:: w_g \propto \sqrt{\max(I_g, 0.001)} / \max(s_g, 0.1 s)

    with Moran's :math:`I_g`, mean over the slides, :math:`s_g` the standard deviation of the gene within slides, and
    :math:`s` that of all genes. Most genes of a transcriptome vary from cell to cell without regard to place, and together
    they drown those that have territories; weighted so, the principal components of a slide that no one has seen the
    places of hold more of its true neighbours, and encoders place held-out sections better (``benchmarks/ablations.md``).

    Parameters
    ----------
    slides
        Expression centred within every training slide, ``(n_s, n_genes)``.
    coords
        Coordinates, ``(n_s, 2)`` or ``(n_s, 3)``.
    by_place
        Whether genes are weighted so, or all alike.
    power
        Power of Moran's I. A quarter and three quarters place a held-out section less well.
    least_i
        Least Moran's I. Where nothing is spatial, all genes count alike.
    least_spread
        Least spread of a gene, as a share of the overall one: rare transcripts are not blown up.

    Returns
    -------
    NDArray
        ``(n_genes,)``, so that weighted genes have a mean square of 1 over all cells and genes.
    """
    square = sum(np.square(x).sum(axis=0) for x in slides) / sum(map(len, slides))
    weights = np.ones(slides[0].shape[1], dtype=np.float32)
    if by_place:
        structure = np.mean([morans_i(x, places) for x, places in zip(slides, coords, strict=True)], axis=0)
        spread = np.maximum(np.sqrt(square), least_spread * np.sqrt(square.mean()))
        weights = np.maximum(structure, least_i) ** power / np.maximum(spread, np.finfo(np.float32).tiny)
    overall = float(np.sqrt(np.mean(np.square(weights) * square)))
    scaled: NDArray[np.float32] = (weights / max(overall, 1e-12)).astype(np.float32)
    return scaled
