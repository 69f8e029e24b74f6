from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist

import ipar.baselines._distance_embedding as module
from ipar.baselines import distance_embedding_mds
from ipar.baselines.inputs import as_reference
from ipar.metrics import luna_spearman


@pytest.fixture(scope="module")
def layout(tissue):
    return distance_embedding_mds(tissue.x, tissue.coords, tissue.slides, tissue.query, n_steps=100)


def test_places_an_unseen_slide(tissue, layout):
    assert layout.shape == tissue.truth.shape
    assert luna_spearman(tissue.truth, layout) > 0.8


def test_learns_nothing_from_permuted_positions(tissue):
    dealt = np.random.default_rng(0).permutation(tissue.coords)
    layout = distance_embedding_mds(tissue.x, dealt, tissue.slides, tissue.query, n_steps=30)
    assert luna_spearman(tissue.truth, layout) < 0.5


def test_layout_has_the_axes_of_classical_mds(layout):
    covariance = np.cov(layout.T)
    assert covariance[0, 0] >= covariance[1, 1]
    assert abs(covariance[0, 1]) < 1e-3 * covariance[1, 1]
    np.testing.assert_allclose(layout.mean(axis=0), 0, atol=1e-4)


def test_unit_of_the_layout_is_a_radius(layout):
    # somewhat less than the slides', since what is not predictable is averaged away
    assert 0.4 < np.sqrt((layout**2).sum(axis=1).mean()) < 1.05


def test_frames_of_slides_do_not_matter(tissue, layout):
    coords = tissue.coords.copy()
    rows = tissue.slides == "s1"
    coords[rows] = 3 * coords[rows][:, ::-1] * [-1, 1] + 100
    moved = distance_embedding_mds(tissue.x, coords, tissue.slides, tissue.query, n_steps=100)
    assert np.corrcoef(pdist(moved), pdist(layout))[0, 1] > 0.999


def test_order_of_query_cells_does_not_matter(tissue, layout):
    order = np.random.default_rng(0).permutation(len(tissue.query))
    shuffled = distance_embedding_mds(tissue.x, tissue.coords, tissue.slides, tissue.query[order], n_steps=100)
    np.testing.assert_allclose(pdist(shuffled), pdist(layout[order]), atol=1e-3)


def test_few_features_are_dropped_less(monkeypatch):
    dropped = []

    def embed(data, x, query, recipe):
        dropped.append((x.shape[1], recipe.input_dropout))
        return query[:, :32]

    monkeypatch.setattr(module, "_embed", embed)
    rng = np.random.default_rng(0)
    for n_genes in (300, 1200):
        x, coords = rng.random((80, n_genes)), rng.random((80, 2))
        distance_embedding_mds(x, coords, ["a"] * 40 + ["b"] * 40, rng.random((30, n_genes)))
    assert dropped == [(80, 0.2), (300, 0.2), (80, 0.2), (1200, 0.5)]  # 80 cells have no more components


def test_seeded_sparse_and_without_side_effects(tissue):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    x, query = tissue.x.copy(), tissue.query.copy()
    first = distance_embedding_mds(x, tissue.coords, tissue.slides, query, n_steps=5, random_state=2)
    second = distance_embedding_mds(
        sparse.csr_matrix(x), tissue.coords, tissue.slides, sparse.csc_matrix(query), n_steps=5, random_state=2
    )
    other = distance_embedding_mds(x, tissue.coords, tissue.slides, query, n_steps=5, random_state=3)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(x, tissue.x)
    np.testing.assert_array_equal(query, tissue.query)


def test_genes_must_match(tissue):
    with pytest.raises(ValueError, match="same genes, found 60 and 59"):
        distance_embedding_mds(tissue.x, tissue.coords, tissue.slides, tissue.query[:, 1:])


@pytest.mark.parametrize(("n_cells", "steps"), [(60, 400), (2500, 400), (5000, 800), (7500, 1200), (20_000, 1200)])
def test_more_cells_are_trained_on_longer(monkeypatch, n_cells, steps):
    asked = []

    class Spy:
        def __init__(self, *_, n_steps, **__):
            asked.append(n_steps)

        def minimise(self, loss):
            pass

    monkeypatch.setattr(module, "Descent", Spy)
    rng = np.random.default_rng(0)
    x, coords, slides = rng.random((n_cells, 8)), rng.random((n_cells, 2)), np.repeat(["a", "b"], n_cells // 2)
    distance_embedding_mds(x, coords, slides, x[:20])
    assert asked == [steps, steps]  # one network on components, one on genes


def test_slides_may_be_left_at_their_level():
    rng = np.random.default_rng(0)
    x, coords, query = rng.random((80, 30)), rng.random((80, 2)), rng.random((40, 30))
    slides = np.repeat(["a", "b"], 40)
    x[slides == "b"] += 1  # holds more of everything
    own, level = (as_reference(x, coords, slides, query + 0.5, centre_slides=centre) for centre in (True, False))
    between = [found.x[slides == "b"].mean() - found.x[slides == "a"].mean() for found in (own, level)]
    assert between == pytest.approx([0, 1], abs=0.05)
    assert own.query.mean() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(level.query, query + 0.5 - x.mean(axis=0), atol=1e-5)
    placed = [
        distance_embedding_mds(x, coords, slides, query, n_steps=5, centre_slides=centre) for centre in (True, False)
    ]
    assert not np.allclose(*placed)
