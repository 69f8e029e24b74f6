from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ipar.datasets._expression import Genes, Technology, draw_counts, log_normalise
from ipar.datasets._sections import Piece, Tissue

N_CELLS = 9000
PLAIN = Technology(median_counts=400.0, depth_sd=0.0, dropout=0.0, shift_sd=0.0, scale_sd=0.0, ambient=0.0)


def flat_tissue() -> tuple[Tissue, Genes, Piece]:
    """One cell type, two genes in the proportion 3 : 1, one spatial pattern that no gene follows."""
    tissue = Tissue(
        name="flat",
        programmes={"none": (0.0, slice(0, 1), 0.0)},
        cell_types=("cell",),
        coupling=np.ones(1),
        size=np.ones(1),
        recovery=np.ones(1),
        cut=lambda rng, n, vary: piece,
    )
    genes = Genes(
        base=np.log([3.0, 1.0]),
        by_type=np.zeros((1, 2)),
        by_space=np.zeros((1, 2)),
        by_state=np.zeros((8, 2)),
        size=np.array([2.0, 5.0]),
        programme=np.array(["none", "none"]),
    )
    piece = Piece(
        np.zeros((N_CELLS, 2)), np.zeros((N_CELLS, 1)), np.zeros(N_CELLS, dtype=int), pd.DataFrame(index=range(N_CELLS))
    )
    return tissue, genes, piece


def test_counts_have_the_moments_of_the_negative_binomial():
    tissue, genes, piece = flat_tissue()
    counts = draw_counts(np.random.default_rng(0), piece, genes, tissue, PLAIN).toarray().astype(float)
    mean = counts.mean(axis=0)
    assert mean[0] / mean[1] == pytest.approx(3, rel=0.03)
    assert mean.sum() == pytest.approx(400, rel=0.5)
    np.testing.assert_allclose(counts.var(axis=0), mean + mean**2 / genes.size, rtol=0.1)


def test_dropout_loses_the_michaelis_menten_share():
    tissue, genes, piece = flat_tissue()
    lossy = Technology(**(vars(PLAIN) | {"dropout": 50.0}))
    kept, lost = (
        draw_counts(np.random.default_rng(0), piece, genes, tissue, technology).toarray()
        for technology in (PLAIN, lossy)
    )
    mean = kept.mean(axis=0)
    np.testing.assert_allclose(lost.mean(axis=0) / mean, mean / (50 + mean), rtol=0.05)


def test_log_normalisation_equals_the_dense_formula_and_survives_an_empty_cell():
    counts = np.array([[1, 0, 3], [0, 0, 0], [10, 5, 5]], dtype=np.int32)
    expected = [[np.log1p(2500), 0, np.log1p(7500)], [0, 0, 0], [np.log1p(5000), np.log1p(2500), np.log1p(2500)]]
    result = log_normalise(sp.csr_matrix(counts))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.toarray(), expected, rtol=1e-6)
