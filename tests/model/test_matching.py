"""Matches of cells and places against dense formulas, and the plan that gives every place like mass."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.special import softmax

from ipar.model.matching import Matching, unit_sums

quick = settings(max_examples=20, deadline=None, derandomize=True)
seeds, numbers = st.integers(0, 2**32 - 1), st.integers(1, 50)


def features_of(seed, *sizes, width=5):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, width)).astype(np.float32) for n in sizes]


@quick
@given(seeds, numbers, numbers)
def test_with_all_places_in_reach_weights_are_a_softmax(seed, n, m):
    cells, places = features_of(seed, n, m)
    weights, similarity = Matching(n_matches=50, width=0.1).find(cells, places)
    distances = cdist(cells.astype(float), places.astype(float), "cosine")
    np.testing.assert_allclose(weights.toarray(), softmax(-distances / 0.1, axis=1), atol=1e-5)
    np.testing.assert_allclose(similarity, 1 - distances.min(axis=1), atol=1e-6)


@quick
@given(seeds, numbers, numbers, st.integers(1, 12))
def test_a_match_is_a_near_place_of_the_cell_or_a_near_cell_of_the_place(seed, n, m, k):
    cells, places = features_of(seed, n, m)
    weights, similarity = Matching(n_matches=k).find(cells, places)
    distances = cdist(cells.astype(float), places.astype(float), "cosine")
    by_cell = distances <= np.sort(distances, axis=1)[:, [min(k, m) - 1]] + 1e-12
    by_place = distances <= np.sort(distances, axis=0)[[min(k, n) - 1]] + 1e-12
    expected = softmax(np.where(by_cell | by_place, -distances / 0.05, -np.inf), axis=1)
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights.getnnz(axis=0) > 0).all()  # every place has a match
    assert (weights.getnnz(axis=1) >= min(k, m)).all()
    np.testing.assert_allclose(similarity, 1 - distances.min(axis=1), atol=1e-6)


@quick
@given(seeds, st.floats(1e-3, 1e3))
def test_the_size_of_features_does_not_matter(seed, scale):
    cells, places = features_of(seed, 20, 30)
    one, other = (Matching().find(np.float32(by) * cells, places)[0] for by in (1.0, scale))
    np.testing.assert_allclose(one.toarray(), other.toarray(), atol=1e-4)


def test_cells_in_the_order_of_the_rows():
    cells, places = features_of(0, 40, 60)
    order, columns = np.random.default_rng(0).permutation(40), np.random.default_rng(1).permutation(60)
    weights, similarity = Matching(n_matches=6).find(cells, places)
    again, similarity_again = Matching(n_matches=6).find(cells[order], places[columns])
    np.testing.assert_allclose(again.toarray(), weights.toarray()[order][:, columns], atol=1e-6)
    np.testing.assert_allclose(similarity_again, similarity[order], atol=1e-6)


def test_cells_that_are_places_match_themselves_best():
    (cells,) = features_of(0, 40)
    weights, similarity = Matching().find(cells, cells)
    assert np.array_equal(weights.toarray().argmax(axis=1), np.arange(40))
    np.testing.assert_allclose(similarity, 1, atol=1e-6)


def test_cells_without_direction_match_all_places_alike():
    (places,) = features_of(0, 12)
    weights, similarity = Matching().find(np.zeros((2, 5), dtype=np.float32), places)
    np.testing.assert_allclose(weights.toarray(), 1 / 12, rtol=1e-5)
    np.testing.assert_allclose(similarity, 0, atol=1e-6)


@quick
@given(seeds, st.integers(2, 40), st.integers(2, 40))
def test_a_balanced_map_fills_every_place_alike(seed, n, m):
    pytest.importorskip("ot")
    matching = Matching(width=0.5)
    cells, places = features_of(seed, n, m)
    weights, _ = matching.find(cells, places)
    plan = matching.balanced(weights)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), n / m, rtol=0.03)


def test_a_balanced_map_is_the_nearest_one():
    """By Sinkhorn's theorem, it is the given weights with rows and columns scaled."""
    pytest.importorskip("ot")
    cells, places = features_of(1, 8, 12)
    matching = Matching(width=0.5, negligible=0.0)
    weights, _ = matching.find(cells, places)
    plan = matching.balanced(weights).toarray()
    scaled = weights.toarray().astype(float)
    for _ in range(500):
        scaled /= scaled.sum(axis=0) * 12 / 8
        scaled /= scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plan, scaled, atol=1e-4)


def test_a_balanced_map_without_pot_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"balanced=True needs POT.*pip install 'ipar\[ot\]'"):
        Matching().balanced(sparse.csr_matrix(np.eye(3)))


def test_a_balanced_map_of_too_many_entries_is_refused():
    pytest.importorskip("ot")
    weights = sparse.csr_matrix(np.full((5, 7), 1 / 7))
    assert Matching().balanced(weights, most_entries=35).shape == (5, 7)
    with pytest.raises(ValueError, match="at most 34 cells times places, found 5 times 7: map fewer cells at a time"):
        Matching().balanced(weights, most_entries=34)


def test_sums_of_rows():
    given_ = sparse.csr_matrix(np.array([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(unit_sums(given_).toarray(), [[0.25, 0.75], [0, 0], [0, 1]])
