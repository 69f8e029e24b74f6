from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsTransformer, RadiusNeighborsTransformer

from ipar.graph import connectivities, neighbor_distances
from ipar.graph.averages import neighbor_average
from ipar.graph.nearest import FaissTransformer


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    slides = pd.Categorical(rng.permutation(["a"] * 90 + ["b"] * 60 + ["c"] * 8))  # slides lie mixed in the rows
    return rng.normal(size=(158, 6)).astype(np.float32), slides


def row_sets(graph):
    return [set(graph.indices[a:b].tolist()) for a, b in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)]


def test_rows_hold_the_nearest_of_their_slide(cells):
    h, slides = cells
    graph = neighbor_distances(h, slides, 7, metric="euclidean")
    assert graph.dtype == np.float32
    for i, found in enumerate(row_sets(graph)):
        gaps = np.where(slides == slides[i], np.linalg.norm(h - h[i], axis=1), np.inf)
        gaps[i] = np.inf
        assert found == set(np.argsort(gaps)[:7].tolist())
        np.testing.assert_allclose(np.sort(graph[i].data), np.sort(gaps)[:7], rtol=1e-5)


def test_a_slide_of_fewer_cells_gives_all_others(cells):
    h, slides = cells
    counts = np.diff(neighbor_distances(h, slides, 20).indptr)
    assert (counts[slides == "c"] == 7).all()
    assert (counts[slides != "c"] == 20).all()


def test_a_cell_alone_on_its_slide_has_no_neighbour(cells):
    h, _ = cells
    slides = pd.Categorical(["a"] * 157 + ["b"])
    graph = neighbor_distances(h, slides, 3)
    assert graph[157].nnz == graph[:, 157].nnz == 0
    assert neighbor_distances(h[:2], pd.Categorical(["a", "b"]), 3).nnz == 0
    weights = connectivities(graph)
    assert weights[157].nnz == 0
    assert np.isfinite(weights.data).all()


def test_order_of_cells_does_not_matter(cells):
    h, slides = cells
    order = np.random.default_rng(1).permutation(len(h))
    graph, shuffled = neighbor_distances(h, slides, 7), neighbor_distances(h[order], slides[order], 7)
    assert abs(graph[order][:, order] - shuffled).max() < 1e-6


def test_unused_categories_are_no_slides(cells):
    h, slides = cells
    more = slides.add_categories(["z"])
    assert (neighbor_distances(h, more, 7) != neighbor_distances(h, slides, 7)).nnz == 0


def test_cells_of_no_slide_are_of_one(cells):
    h, _ = cells
    slides = pd.Categorical(["a"] * len(h))
    assert (neighbor_distances(h, None, 7) != neighbor_distances(h, slides, 7)).nnz == 0
    assert (neighbor_average(h, None, 7) != neighbor_average(h, slides, 7)).nnz == 0


def test_cells_of_one_embedding_stay_neighbours(cells):
    h, slides = cells
    own = np.flatnonzero(slides == "a")[:20]
    h[own] = h[own[0]]
    graph = neighbor_distances(h, slides, 10, metric="euclidean")
    assert (np.diff(graph.indptr)[own] == 10).all()
    assert (graph.data > 0).all()
    assert all(found <= set(own.tolist()) for found in np.array(row_sets(graph), dtype=object)[own])
    weights = connectivities(graph)
    assert np.isfinite(weights.data).all()
    assert (weights.data > 0).all()
    i, j = own[0], next(iter(row_sets(graph)[own[0]]))
    assert weights[i, j] == pytest.approx(1.0)


def test_far_neighbours_keep_a_weight():
    h = np.array([[0.0], [1e-4], [2e-4], [1e4]], dtype=np.float32)
    graph = neighbor_distances(h, pd.Categorical(["a"] * 4), 3, metric="euclidean")
    weights = connectivities(graph)
    assert weights.nnz == 12
    assert (weights.data > 0).all()


def test_large_slides_are_searched_in_lists_of_like_cells():
    rng = np.random.default_rng(0)
    h = (rng.normal(size=(4_000, 8)) @ rng.normal(size=(8, 32))).astype(np.float32)
    exact = neighbor_distances(h, None, 10)
    found = neighbor_distances(h, None, 10, exact_max=1_000)
    assert (np.diff(found.indptr) == 10).all()
    assert found.diagonal().max() == 0
    kept = np.mean([len(a & b) for a, b in zip(row_sets(exact), row_sets(found), strict=True)])
    assert 9 < kept < 10
    assert (neighbor_distances(h, None, 10, exact_max=1_000) != found).nnz == 0


def test_lists_that_hold_too_few_cells_are_made_up_for(cells):
    h = np.concatenate([np.ones((5, 3)), -np.ones((300, 3))]).astype(np.float32)
    h += 0.1 * np.random.default_rng(0).normal(size=h.shape).astype(np.float32)
    search = FaissTransformer(20, exact_max=10, n_lists_searched=1)
    found = search.nearest(h)
    assert (found.index >= 0).all()
    exact = FaissTransformer(20).nearest(h)
    np.testing.assert_allclose(found.distance[:5], exact.distance[:5], atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_lists_of_neighbours_are_those_of_all_distances(metric):
    h = np.random.default_rng(1).normal(size=(90, 6)).astype(np.float32)
    found = FaissTransformer(7, metric).nearest(h)
    distances = cdist(h.astype(float), h.astype(float), metric)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(found.index, np.argsort(distances, axis=1)[:, :7])
    np.testing.assert_allclose(found.distance, np.sort(distances, axis=1)[:, :7], rtol=1e-3, atol=1e-5)
    order = np.random.default_rng(2).permutation(90)
    moved, expected = found.in_order(order), FaissTransformer(7, metric).nearest(h[order])
    np.testing.assert_array_equal(moved.index, expected.index)
    np.testing.assert_allclose(moved.graph().toarray(), expected.graph().toarray(), atol=1e-5)


def test_cells_in_one_place_are_each_others_neighbours():
    h = np.repeat(np.random.default_rng(0).normal(size=(5, 4)), 30, axis=0).astype(np.float32)
    found = FaissTransformer(10).nearest(h)
    assert (found.index != np.arange(150)[:, None]).all()
    assert (found.index // 30 == np.arange(150)[:, None] // 30).all()


def test_empty_cells_are_at_distance_one_from_all_others():
    h = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    h[7] = 0
    found = neighbor_distances(h, None, 39)
    np.testing.assert_allclose(found[7].data, 1, atol=1e-6)
    np.testing.assert_allclose(found[:, 7].data, 1, atol=1e-6)


@pytest.mark.parametrize(
    "transformer",
    [
        KNeighborsTransformer(n_neighbors=7),
        KNeighborsTransformer(n_neighbors=6, algorithm="brute"),
        RadiusNeighborsTransformer(radius=3.0),
    ],
    ids=["tree", "brute force", "radius"],
)
def test_any_transformer_gives_its_nearest(cells, transformer):
    h, slides = cells
    exact = neighbor_distances(h, slides, 5, metric="euclidean")
    found = neighbor_distances(h, slides, 5, transformer=transformer)
    assert found.diagonal().max() == 0
    counts = np.diff(found.indptr)
    inside = np.flatnonzero(counts == 5)
    assert counts.max() == 5
    assert len(inside) > 120
    agree = [row_sets(exact)[i] == row_sets(found)[i] for i in inside]
    assert np.mean(agree) > 0.95


def test_neighbours_that_a_search_did_not_find_are_left_out():
    class Failing:
        def fit_transform(self, x):
            n = len(x)
            columns = np.tile([1, -1, -1], n)  # as PyNNDescent marks them
            columns[3] = 2
            return sparse.csr_array((np.ones(3 * n), columns, np.arange(0, 3 * n + 1, 3)), shape=(n, n))

    found = neighbor_distances(np.ones((6, 2), dtype=np.float32), pd.Categorical(["a"] * 6), 3, transformer=Failing())
    assert row_sets(found) == [{1}, {2}, {1}, {1}, {1}, {1}]


def test_a_transformer_of_a_full_graph_in_another_format_is_taken(cells):
    h, slides = cells

    class Full:
        def fit_transform(self, x):
            gaps = np.linalg.norm(x[:, None] - x[None], axis=-1)
            return sparse.csc_matrix(gaps)

    found = neighbor_distances(h, slides, 5, transformer=Full())
    assert abs(found - neighbor_distances(h, slides, 5, metric="euclidean")).max() < 1e-5


def test_weights_by_the_definition(cells, global_random_state):
    graph = neighbor_distances(*cells, 7)
    d = graph.toarray().astype(float)
    sigma = np.array([np.median(row[row > 0]) for row in d])
    either = np.maximum(d, d.T)
    expected = np.where(either > 0, np.exp(-(either**2) / np.outer(sigma, sigma)), 0.0)
    weights = connectivities(graph)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-4)
