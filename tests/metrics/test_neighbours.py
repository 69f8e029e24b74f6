from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import NearestNeighbors

from ipar.metrics import continuity, knn_hit, trustworthiness
from ipar.metrics._neighbours import knn_chance, knn_hits, rank_preservation


def neighbour_sets(coords, k):
    return [set(row) for row in NearestNeighbors(n_neighbors=k).fit(coords).kneighbors(return_distance=False)]


@pytest.mark.parametrize("k", [1, 10, 20, 149])
def test_knn_hit_against_sets_of_neighbours(layouts, k):
    true, pred = layouts
    pairs = zip(neighbour_sets(true, k), neighbour_sets(pred, k), strict=True)
    assert knn_hit(true, pred, n_neighbors=k) == pytest.approx(np.mean([len(a & b) / k for a, b in pairs]))


def test_ties_score_their_expectation_under_random_order():
    true = np.array([(x, y) for x in range(5) for y in range(5)], dtype=float)  # regular array: many ties
    pred = np.random.default_rng(3).normal(size=true.shape)
    rng = np.random.default_rng(4)
    trials = []
    for _ in range(1500):
        # equally far neighbours in random order: jitter far below the spacing
        jittered = true + rng.normal(scale=1e-6, size=true.shape)
        trials.append(knn_hit(jittered, pred, n_neighbors=3))
    error = np.std(trials) / np.sqrt(len(trials))
    assert knn_hit(true, pred, n_neighbors=3) == pytest.approx(np.mean(trials), abs=5 * error)
    assert np.std(trials) > 10 * error  # ties do matter here


def test_a_regular_array_keeps_its_ties_when_turned():
    true = np.array([(x, y) for x in range(9) for y in range(9)], dtype=float)
    pred = np.random.default_rng(3).normal(size=true.shape)
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])  # rounding now separates equal distances
    assert knn_hit(true @ turn, pred, n_neighbors=7) == pytest.approx(knn_hit(true, pred, n_neighbors=7), abs=1e-12)


@pytest.mark.parametrize("score", [knn_hit, trustworthiness, continuity])
def test_row_order_plays_no_part(score):
    rng = np.random.default_rng(5)
    true = np.array([(x, y) for x in range(8) for y in range(8)], dtype=float)
    pred = np.round(true + rng.normal(size=true.shape))  # ties and coincident cells
    order = rng.permutation(len(true))
    assert score(true[order], pred[order], n_neighbors=7) == pytest.approx(score(true, pred, n_neighbors=7), abs=1e-12)


def test_prediction_on_one_point_scores_chance(layouts):
    true, _ = layouts
    assert knn_hit(true, np.ones_like(true), n_neighbors=9) == pytest.approx(knn_chance(150, 9))


def test_random_layouts_score_chance_on_average():
    rng = np.random.default_rng(6)
    hits = [knn_hit(rng.random((60, 2)), rng.random((60, 2)), n_neighbors=10) for _ in range(200)]
    assert np.mean(hits) == pytest.approx(knn_chance(60, 10), abs=4 * np.std(hits) / np.sqrt(200))


@pytest.mark.parametrize("k", [1, 5, 20, 74])
def test_trustworthiness_and_continuity_against_sklearn(layouts, k):
    true, pred = layouts
    assert trustworthiness(true, pred, n_neighbors=k) == pytest.approx(
        sklearn_trustworthiness(true, pred, n_neighbors=k)
    )
    assert continuity(true, pred, n_neighbors=k) == pytest.approx(sklearn_trustworthiness(pred, true, n_neighbors=k))


def test_tearing_and_folding_are_told_apart():
    rng = np.random.default_rng(8)
    true = rng.random((200, 2))
    folded = np.column_stack([np.abs(true[:, 0] - 0.5), true[:, 1]])  # strangers become neighbours, no tear
    assert trustworthiness(true, folded) < continuity(true, folded) - 0.05
    torn = true + [5.0, 0.0] * (true[:, :1] > 0.5)  # neighbours are pulled apart, none is made
    assert continuity(true, torn) < trustworthiness(true, torn) - 0.001


@pytest.mark.parametrize("rows", [1, 7])
def test_scores_do_not_depend_on_the_block_size(layouts, rows):
    scores = [f(*layouts, n_neighbors=20) for f in (knn_hit, trustworthiness, continuity)]
    (hit,) = knn_hits(*layouts, [20], block=rows * 150)
    kept = [rank_preservation(*pair, 20, block=rows * 150) for pair in (layouts, layouts[::-1])]
    assert [hit, *kept] == pytest.approx(scores)


def test_neighbour_counts_out_of_range_are_refused(layouts):
    with pytest.raises(ValueError, match="between 1 and 149 for 150 cells, found 150"):
        knn_hit(*layouts, n_neighbors=150)
    with pytest.raises(ValueError, match="between 1 and 74 for 150 cells, found 75"):
        trustworthiness(*layouts, n_neighbors=75)
    with pytest.raises(ValueError, match="between 1 and 74 for 150 cells, found 0"):
        continuity(*layouts, n_neighbors=0)
    with pytest.raises(ValueError, match="between 1 and 9 for 10 cells, found 10"):
        knn_chance(10, 10)
