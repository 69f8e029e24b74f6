"""Expression of one data set in the gene order of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from ipar._chunks import Matrix, Rows, as_rows, row_slices
from ipar._cluster import pool
from ipar._options import Bounds, Checked, Count
from ipar._passes import Numbers
from ipar.graph.averages import averaged_features, neighbor_average
from ipar.nn import SetEncoder

T = TypeVar("T", bound=np.generic)


def embedding_order(embedding: NDArray[np.floating]) -> NDArray[np.intp]:
    """An order of the cells of a slide that depends on their embedding ``(n, e)`` alone.

    Random draws and sums go by it: the order of the rows of a file must not matter.
    """
    return np.lexsort(embedding.T[:2])


def reordered(x: NDArray[T], order: NDArray[np.intp]) -> NDArray[T]:
    """Rows of an array in another order; the array itself, not a copy, where it has this order."""
    return x if np.array_equal(order, np.arange(len(x))) else x[order]


Hops = Annotated[int, Bounds(0, 10)]


@dataclass(frozen=True)
class Averaging(Checked):
    """How a cell's expression is averaged with that of the cells most like it on its slide.

    Attributes
    ----------
    n_neighbors
        Cells averaged over; 10 to 50 score alike on held-out brain and embryo slides.
    n_hops
        Averages that the network on components reads beside the cell: 1 is the average over its neighbours, 2 adds the
        average of those averages; 0 for none.
    """

    n_neighbors: Count = 20
    n_hops: Hops = 1


@dataclass(frozen=True)
class GeneCentring:
    """How the genes of cells are centred within slides, and scaled.

    Attributes
    ----------
    codes
        Slide of every row of the matrix, ``(n,)``.
    means, gene_scale
        As in :class:`Reading`.
    """

    codes: NDArray[np.int64]
    means: NDArray[np.float32]
    gene_scale: NDArray[np.float32] | None

    def batches(
        self, own: Numbers, chunk: sparse.csr_matrix, n_values: int = 1 << 24
    ) -> Iterator[tuple[Numbers, NDArray[np.float32]]]:
        """Rows of a chunk, with so many values at a time, and what networks read of them, dense."""
        n_rows = max(n_values // chunk.shape[1], 256)
        return ((own[some], self.dense(own[some], chunk[some])) for some in row_slices(len(own), n_rows))

    def dense(self, own: Numbers, rows: sparse.csr_matrix) -> NDArray[np.float32]:
        """Some rows of the matrix, dense."""
        centred: NDArray[np.float32] = rows.toarray()
        centred -= self.means if len(self.means) == 1 else self.means[self.codes[own]]
        if self.gene_scale is not None:
            centred *= self.gene_scale
        return centred


@dataclass(frozen=True)
class Reading:
    """Expression of some slides as the encoder's networks read it, with its cells in an order of their own.

    The matrix is not copied: a million cells would take gigabytes.
    """

    matrix: Rows  # in the encoder's gene order
    order: NDArray[np.intp]  # rows of the matrix as they are read
    slides: pd.Categorical  # of the cells in that order
    codes: NDArray[np.int64]  # slide index of every cell in that order
    means: NDArray[np.float32]  # what the genes of every slide are centred on, (n_slides, n_genes)
    loadings: NDArray[np.float32]
    averaging: Averaging
    gene_scale: NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        slides: pd.Categorical,
        loadings: NDArray[np.float32],
        averaging: Averaging,
        gene_scale: NDArray[np.float32] | None = None,
        order: NDArray[np.intp] | None = None,
        centres: NDArray[np.float32] | None = None,
    ) -> Reading:
        """Centre genes within slides, on given centres ``(n_slides, n_genes)`` or on their means."""
        matrix = as_rows(matrix)
        order = np.arange(matrix.shape[0]) if order is None else order
        if centres is None:
            centres = matrix.means_of(np.asarray(slides.codes, dtype=np.int64), len(slides.categories))
        slides = slides[order]
        return cls(
            matrix, order, slides, np.asarray(slides.codes, dtype=np.int64), centres, loadings, averaging, gene_scale
        )

    @cached_property
    def components(self) -> NDArray[np.float32]:
        """Components and their averages over like cells, ``(n, n_pcs · (1 + n_hops))``, without a dense copy of the genes."""
        centred = self.matrix.dot(self.loadings).astype(np.float32, copy=False)[self.order]
        for code, mean in enumerate(self.means @ self.loadings):
            centred[self.codes == code] -= mean
        average = neighbor_average(centred, self.slides, self.averaging.n_neighbors)
        return averaged_features(centred, average, self.codes, self.averaging.n_hops)

    @property
    def genes(self) -> GeneInput:
        """Expression of all cells, dense and centred as they are read."""
        return GeneInput(self)

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """Where the rows of the matrix are in the order of the cells."""
        return np.argsort(self.order)

    @property
    def centring(self) -> GeneCentring:
        """How the genes of a row of the matrix are centred and scaled."""
        return GeneCentring(self.codes[self.place], self.means, self.gene_scale)


@dataclass(frozen=True)
class GeneInput:
    """Expression of cells, made dense when it is read: all cells of a transcriptome would fill the memory."""

    reading: Reading

    @cached_property
    def centring(self) -> GeneCentring:
        """How its genes are centred and scaled."""
        return self.reading.centring

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.reading.order), self.reading.matrix.shape[1]

    def __getitem__(self, cells: torch.Tensor) -> torch.Tensor:
        own = self.reading.order[cells.numpy()]
        return torch.from_numpy(self.centring.dense(own, self.reading.matrix.take(own)))


@torch.no_grad()
def whole_slides(
    network: SetEncoder,
    features: NDArray[np.float32],
    codes: NDArray[np.int_],
    n_context: int = 2048,
    n_rows: int = 16_384,
) -> NDArray[np.float32]:
    """Output of a set encoder for every cell of every slide, centred, ``(n, n_output)``.

    All cells of a slide attend to the same ``n_context`` of them at most, ``n_rows`` cells at a time: far more than the sets
    trained on, and time is linear in cells.
    """
    out = np.empty((len(features), network.n_output), dtype=np.float32)
    for code in np.unique(codes):
        cells = np.flatnonzero(codes == code)
        if len(cells) > n_context:
            context = features[cells[np.sort(np.random.default_rng(0).permutation(len(cells))[:n_context])]]
            parts = (features[cells[some]] for some in row_slices(len(cells), n_rows))
            own = np.concatenate(list(pool().map("embed", _in_context, parts, network, context)))
        else:
            own = _in_context(features[cells], network, features[:0])
        out[cells] = own - own.mean(axis=0)
    return out


@torch.no_grad()
def _in_context(x: NDArray[np.float32], network: SetEncoder, context: NDArray[np.float32]) -> NDArray[np.float32]:
    """Output of a set encoder for cells that attend to others, or to each other, if there are none."""
    read = torch.from_numpy(np.concatenate([context, x]))[None].to(next(network.parameters()).device)
    attended = torch.arange(len(context), device=read.device) if len(context) else None
    found: NDArray[np.float32] = network(read, attended)[0, len(context) :].cpu().numpy()
    return found


def equalise_blocks(
    x: NDArray[np.float32], codes: NDArray[np.int_], n_blocks: int, norm: float = 9.4
) -> NDArray[np.float32]:
    """Scale every block of every slide, in place, to the same share of an RMS row norm.

    The augmentation noise of the layout network is set against ``norm``.
    """
    counts = np.maximum(np.bincount(codes), 1)
    for block in np.split(x, n_blocks, axis=1):  # views
        rms = np.sqrt(np.bincount(codes, np.square(block).sum(1)) / counts).astype(np.float32)
        block *= (norm / n_blocks**0.5 / np.maximum(rms, 1e-6))[codes][:, None]
    return x
