from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from sklearn.neighbors import kneighbors_graph

from ipar.graph import morans_i


@pytest.fixture
def slide():
    rng = np.random.default_rng(0)
    coords = rng.random((300, 2)).astype(np.float32)
    x = np.stack(
        [
            coords[:, 0],  # a gradient
            rng.normal(size=300),  # noise
            np.ones(300),  # constant
            np.where(coords[:, 1] > 0.5, 2.0, 0.0) + rng.normal(size=300),  # a noisy territory
            10 + 5 * coords[:, 0],  # the gradient in other units
        ],
        axis=1,
    )
    return x.astype(np.float32), coords


def test_morans_i_is_that_of_scanpy(slide):
    x, coords = slide
    varying = [0, 1, 3, 4]
    expected = sc.metrics.morans_i(kneighbors_graph(coords, 8).tocsr(), x[:, varying].T.astype(float))
    np.testing.assert_allclose(morans_i(x, coords)[varying], expected, atol=1e-4)


def test_territories_stand_out_whatever_their_units(slide):
    found = morans_i(*slide)
    assert found[0] > 0.9
    assert abs(found[1]) < 0.15
    assert found[2] == 0
    assert 0.2 < found[3] < found[0]
    assert found[4] == pytest.approx(found[0], abs=1e-4)


def test_pieces_and_tiny_slides(slide):
    x, coords = slide
    whole = morans_i(x, coords)
    np.testing.assert_allclose(morans_i(x, coords, chunk=2), whole, atol=1e-6)
    # all others are neighbours of each of five cells: -1 / (n - 1), whatever the gene
    np.testing.assert_allclose(morans_i(x[:5, [0, 1, 3]], coords[:5]), -0.25, atol=1e-4)


def test_neither_turn_nor_order_matters(slide):
    x, coords = slide
    turn = np.array([[0.6, -0.8], [-0.8, -0.6]], dtype=np.float32)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(morans_i(x[order], 7 * (coords @ turn)[order]), morans_i(x, coords), atol=1e-4)
