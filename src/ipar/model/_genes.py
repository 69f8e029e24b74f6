"""Expression of one data set in the gene order of a model."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

MIN_OVERLAP = 0.5


def match_genes(
    matrix: sparse.csr_matrix, genes: pd.Index, known: pd.Index
) -> tuple[sparse.csr_matrix, NDArray[np.bool_]]:
    """Bring a matrix into a model's gene order.

    Genes are matched by name. A missing one stands at its slide's mean, that is at zero once centred.

    Parameters
    ----------
    matrix
        Expression, ``(n_cells, len(genes))``.
    genes, known
        Names of its columns, and of the model's.

    Returns
    -------
    tuple
        The matrix, ``(n_cells, len(known))``, with empty columns for missing genes, and which genes are present.

    Raises
    ------
    ValueError
        If fewer than half of the model's genes are present.
    """
    present = genes.get_indexer(known) >= 0
    n_missing = int((~present).sum())
    if present.mean() < MIN_OVERLAP:
        msg = (
            f"Only {int(present.sum())} of the model's {len(known)} genes are in the data, at least half are "
            f"needed. Genes are matched by adata.var_names; the model has names such as {known[0]!r}, the data "
            f"{next(iter(genes), None)!r}: bring them to one naming (symbols or Ensembl ids)."
        )
        raise ValueError(msg)
    if n_missing:
        warnings.warn(
            f"{n_missing} of the model's {len(known)} genes are missing from the data; they are filled at the mean.",
            UserWarning,
            stacklevel=5,
        )
    return order_genes(matrix, genes, known), present


def order_genes(matrix: sparse.csr_matrix, genes: pd.Index, known: pd.Index) -> sparse.csr_matrix:
    """The columns of the known genes, in their order; empty where they are missing."""
    if genes.equals(known):
        return matrix
    found = genes.get_indexer(known)
    rows = np.flatnonzero(found >= 0)
    selector = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (found[rows], rows)), shape=(len(genes), len(known))
    )
    return sparse.csr_matrix(matrix @ selector)
