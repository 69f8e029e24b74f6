"""What a pass over the rows of a matrix computes of a chunk, on a worker too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Numbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Survey:
    """What one pass over all rows tells.

    Attributes
    ----------
    keys
        :func:`row_key` of every row, float64 ``(n,)``.
    sizes
        Values other than zero of every row, int32 ``(n,)``.
    sums
        Sum of every column in float64, ``(n_genes,)``.
    smallest, largest
        Extremes, at most and at least zero; NaN if there is a NaN.
    """

    keys: NDArray[np.float64]
    sizes: NDArray[np.int32]
    sums: NDArray[np.float64]
    smallest: float
    largest: float


def row_key(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """A number for every row that depends on what the row holds alone, ``(n,)``."""
    key: NDArray[np.float64] = matrix @ np.random.default_rng(0).random(matrix.shape[1])
    return key


def chunk_itself(_: Numbers, chunk: sparse.csr_matrix) -> sparse.csr_matrix:
    """The rows."""
    return chunk


def product(_: Numbers, chunk: sparse.csr_matrix, x: NDArray[Any]) -> NDArray[Any]:
    """Product with a dense matrix ``(n_genes, k)``."""
    found: NDArray[Any] = chunk @ x
    return found


def survey_of(_: Numbers, chunk: sparse.csr_matrix) -> Survey:
    """What the rows tell."""
    return Survey(
        row_key(chunk),
        np.diff(chunk.indptr),
        np.bincount(chunk.indices, chunk.data, minlength=chunk.shape[1]).astype(np.float64),
        chunk.data.min(initial=0),
        chunk.data.max(initial=0),
    )


def group_sums(own: Numbers, chunk: sparse.csr_matrix, codes: NDArray[np.int_], n_groups: int) -> NDArray[np.float64]:
    """Sum of every column for every group of rows, ``(n_groups, n_genes)``."""
    ones = np.ones(len(own))
    member = sparse.csr_matrix((ones, (codes[own], np.arange(len(own)))), shape=(n_groups, len(own)))
    sums: NDArray[np.float64] = (member @ chunk).toarray()
    return sums
