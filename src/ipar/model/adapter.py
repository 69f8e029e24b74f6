"""Cells of another technology, brought to the training slides gene by gene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._chunks import Matrix, as_rows
from ipar.model.checks import shaped
from ipar.model.encoder import GeometryEncoder
from ipar.model.genes import match_genes
from ipar.model.io import State
from ipar.model.matching import Centring
from ipar.model.reference import Reference


@dataclass(frozen=True)
class Adapter:
    """A shift and a scale per gene, from the cells of one technology to the training slides.

    Attributes
    ----------
    mean
        Mean expression of the cells that it was fitted on, ``(n_genes,)``: by it, their technology is recognised.
    centre
        What their genes are centred on (:class:`ipar.model.matching.Centring`).
    scale
        What centred genes are multiplied by, so that they vary as much as on the training slides.
    """

    mean: NDArray[np.float32]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        encoder: GeometryEncoder,
        reference: Reference,
        centring: Centring,
        matrix: Matrix,
        genes: pd.Index,
        most_scaled: float = 5.0,
    ) -> Adapter:
        """Fit it on cells ``(n, n_genes)``; no gene is scaled up or down by more than ``most_scaled``."""
        own = as_rows(match_genes(matrix, genes, encoder.genes)).whole()
        centre = centring.centre(encoder, reference, own, genes.get_indexer(encoder.genes) >= 0)
        mean = np.asarray(own.mean(axis=0), dtype=np.float64).ravel()
        spread = np.sqrt(np.maximum(np.asarray(own.multiply(own).mean(axis=0)).ravel() - mean**2, 0))
        ratio = np.divide(reference.spread, spread, out=np.ones_like(spread), where=spread > 0)
        scale = np.clip(ratio, 1 / most_scaled, most_scaled).astype(np.float32)
        return cls(mean.astype(np.float32), centre, scale)

    def fits(self, mean: NDArray[np.float32], reference: Reference) -> bool:
        """Whether cells of a mean expression ``(n_genes,)`` are more like those of the adapter than like training slides."""
        return bool(np.linalg.norm(mean - self.mean) < np.linalg.norm(mean - reference.mean))

    def adapted(self, encoder: GeometryEncoder) -> GeometryEncoder:
        """The encoder of scaled genes."""
        scale = np.ones_like(self.scale) if encoder.gene_scale is None else encoder.gene_scale
        return replace(encoder, loadings=encoder.loadings * self.scale[:, None], gene_scale=scale * self.scale)

    def state(self) -> State:
        """Settings and arrays."""
        return {}, {"mean": self.mean, "centre": self.centre, "scale": self.scale}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Adapter:
        """The object of :meth:`state`."""
        return cls(**shaped(arrays, {"mean": "g", "centre": "g", "scale": "g"}))
