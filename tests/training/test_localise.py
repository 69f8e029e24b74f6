from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import rankdata, spearmanr
from sklearn.cluster import KMeans

from ipar.metrics import procrustes_error
from ipar.training.localise import (
    FoldScore,
    FoldScoring,
    Localisability,
    _distance_spearman,
    repeated_message,
    score_fold,
    score_of,
    share_in_two_places,
)


def layout(n, seed=0):
    return np.random.default_rng(seed).uniform([0, 0], [30, 20], size=(n, 2)).astype(np.float32)


def lifted(coords, noise, seed=0):
    """An embedding whose distances follow the layout's: the layout itself in more dimensions, with noise."""
    rng = np.random.default_rng(seed)
    centred = (coords - coords.mean(0)) / coords.std()
    wide = np.c_[centred, np.ones(len(coords)) * 4]  # off the origin, so that angles tell positions too
    return (np.c_[wide, np.zeros((len(coords), 5))] + noise * rng.normal(size=(len(coords), 8))).astype(np.float32)


def by_definition(h, coords, n_candidates):
    """Recall and rank correlation, one cell and one pair at a time."""
    n = len(h)
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    found = []
    for i in range(n):
        others = np.delete(np.arange(n), i)
        true = others[np.argsort(np.linalg.norm(coords[others] - coords[i], axis=1))[:20]]
        near = others[np.argsort(-(unit[others] @ unit[i]))[:n_candidates]]
        found.append(len(set(true) & set(near)) / 20)
    i, j = np.triu_indices(n, 1)
    a, b = rankdata(cdist(h, h)[i, j]), rankdata(cdist(coords, coords)[i, j])
    return np.mean(found), np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize(("n", "n_candidates"), [(200, 50), (500, 100)])
def test_scores_by_the_definition(n, n_candidates):
    coords = layout(n)
    h = lifted(coords, 0.5).astype(float)
    score = score_fold("one", h.astype(np.float32), coords)
    recall, spearman = by_definition(h, coords.astype(float), n_candidates)
    assert score.recall == pytest.approx(recall, abs=1e-3)
    assert score.distance_spearman == pytest.approx(spearman, abs=1e-4)
    assert score.recall_chance == n_candidates / (n - 1)
    assert score.recall_ratio == pytest.approx(recall / score.recall_chance, rel=1e-2)


def test_truth_scores_best_and_noise_at_chance():
    coords = layout(400)
    truth, blurred, noise = (score_fold("one", lifted(coords, scale), coords) for scale in (0.0, 0.6, 1e4))
    assert truth.distance_spearman == pytest.approx(1, abs=1e-6)
    assert truth.recall > 0.95
    assert truth.recall > blurred.recall > noise.recall
    assert truth.distance_spearman > blurred.distance_spearman > noise.distance_spearman
    assert noise.recall_ratio == pytest.approx(1, abs=0.1)
    for score in (truth, blurred, noise):
        assert 0 <= score.permutation_spearman < 0.1
    assert abs(noise.distance_spearman) < 0.1
    assert truth.explained == pytest.approx(1, abs=1e-6)
    assert truth.explained > blurred.explained > 0.4 > 0.05 > noise.explained


def test_the_variance_explained_is_that_of_the_principal_layout_of_what_was_taught_distances():
    coords = layout(300)
    h = lifted(coords, 0.8)
    centred = h - h.mean(0)
    vectors = np.linalg.svd(centred, full_matrices=False)[2]
    rmse = procrustes_error(coords, centred @ vectors[:2].T).rmse
    assert score_fold("one", h, coords).explained == pytest.approx(1 - rmse**2, abs=1e-6)
    noise = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    both = np.c_[h, 10 * noise]
    assert score_fold("one", both, coords, global_columns=slice(h.shape[1])).explained == pytest.approx(
        1 - rmse**2, abs=1e-6
    )
    assert score_fold("one", both, coords).explained < 0.1


def test_an_embedding_that_tells_nothing_apart_explains_nothing():
    coords = layout(100)
    with np.errstate(invalid="ignore"):
        assert score_fold("one", np.ones((100, 4), np.float32), coords).explained == 0


def test_as_many_dimensions_as_the_tissue_has():
    solid = np.random.default_rng(0).uniform(size=(200, 3)).astype(np.float32)
    assert score_fold("one", np.c_[solid, np.zeros((200, 2), np.float32)], solid).explained == pytest.approx(
        1, abs=1e-6
    )


def test_frames_and_order_do_not_matter():
    coords, order = layout(300), np.random.default_rng(2).permutation(300)
    h = lifted(coords, 0.4)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0].astype(np.float32)
    first = score_fold("one", h, coords)
    moved = score_fold("one", (3 * h @ turn)[order], (0.01 * coords[:, ::-1] + 5)[order])
    assert moved.recall == pytest.approx(first.recall, abs=2e-3)
    assert moved.distance_spearman == pytest.approx(first.distance_spearman, abs=1e-4)


def test_large_slides_are_subsampled_without_bias():
    coords = layout(600)
    h = lifted(coords, 0.5)
    whole = score_fold("one", h, coords)
    fewer = FoldScoring(most_cells=200)
    parts = [score_fold("one", h, coords, scoring=fewer, random_state=seed) for seed in range(5)]
    assert all(part.recall_chance == 50 / 199 for part in parts)
    assert len({part.distance_spearman for part in parts}) == 5
    assert np.mean([part.distance_spearman for part in parts]) == pytest.approx(whole.distance_spearman, abs=0.03)


def test_seeds(global_random_state):
    coords = layout(200)
    h = lifted(coords, 0.5)
    scores = [score_fold("one", h, coords, scoring=FoldScoring(most_cells=100), random_state=s) for s in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_the_smallest_slides_have_a_score():
    coords = layout(50)
    score = score_fold("one", lifted(coords, 0.1), coords)
    assert score.recall_chance == pytest.approx(12 / 49)
    assert 0 < score.recall <= 12 / 20


def test_ranks_in_another_order_are_those_of_the_distances_in_that_order():
    coords = layout(60)
    coords[:9] = coords[9:18]  # ties
    h, orders = lifted(coords, 1.0), [np.random.default_rng(i).permutation(60) for i in range(2)]
    found, shuffled = _distance_spearman(h, coords, orders)
    expected = [spearmanr(pdist(h), pdist(x)).statistic for x in (coords, *(coords[order] for order in orders))]
    assert [found, *shuffled] == pytest.approx(expected, abs=1e-12)
    assert found > 0.2 > max(map(abs, shuffled))


def fold(spearman, ratio, slide="one", explained=0.5):
    return FoldScore(slide, 0.1 * ratio, 0.1, spearman, 0.02, explained=explained)


@pytest.mark.parametrize(
    ("folds", "verdict"),
    [
        ([fold(0.5, 4.0)], True),
        ([fold(0.251, 1.501, explained=0.251)], True),
        ([fold(0.24, 4.0)], False),
        ([fold(0.5, 4.0, explained=0.24)], False),
        ([fold(0.5, 4.0, explained=0.1), fold(0.5, 4.0, explained=0.5)], True),
        ([fold(0.9, 1.49)], False),
        ([fold(0.3, 5.0), fold(0.5, 3.0)], True),
        ([fold(-0.05, 5.0), fold(0.5, 5.0)], False),
        ([fold(float("nan"), 5.0)], False),
    ],
)
def test_verdict_needs_all_figures_on_average(folds, verdict):
    assert Localisability(tuple(folds)).localisable is verdict


def test_table_and_means():
    found = Localisability((fold(0.2, 5.0, "a"), fold(0.6, 3.0, "b")), oriented=0.9)
    table = found.table().set_index("slide")
    assert table["recall_ratio"].to_dict() == pytest.approx({"a": 5.0, "b": 3.0})
    assert found.to_dict() == pytest.approx(
        {
            "localisable": True,
            "repeated": False,
            "held_out": "slides",
            "oriented": 0.9,
            "recall": 0.4,
            "recall_chance": 0.1,
            "recall_ratio": 4.0,
            "distance_spearman": 0.4,
            "permutation_spearman": 0.02,
            "two_places": 0.0,
            "explained": 0.5,
        }
    )
    assert set(found.to_dict()) <= {"localisable", "repeated", "held_out", "oriented", *table.columns}


def test_message_has_figures_and_thresholds():
    message = Localisability((fold(0.123, 1.44),)).message()
    for part in (
        "at 0.12",
        "permuted: 0.02",
        "0.25 is needed",
        "explains 50%",
        "25% is needed",
        "1.4 times",
        "1.5 is needed",
    ):
        assert part in message


def nearest(features, k=20):
    return np.argsort(cdist(features, features) + np.diag(np.full(len(features), np.inf)), axis=1)[:, :k]


def folded(coords, noise=0.05):
    """What a mirror-symmetric tissue tells of the position: the distance from the middle, and the height."""
    centred = (coords - coords.mean(0)) / coords.std()
    blur = np.random.default_rng(1).normal(scale=noise, size=centred.shape)
    return np.c_[np.abs(centred[:, 0]), centred[:, 1]] + blur


def by_two_means(coords, near):
    """The same share with another library's two-means, one cell at a time."""
    radius = np.sqrt(coords.var(axis=0).sum())
    found = []
    for cells in near:
        means = KMeans(2, n_init=5, random_state=0).fit(coords[cells])
        apart = np.linalg.norm(np.diff(means.cluster_centers_, axis=0)) / radius
        spread = np.sqrt(means.inertia_ / len(cells)) / radius
        found.append(apart >= 0.7 and spread < 0.3 * apart and 0.2 <= means.labels_.mean() <= 0.8)
    return np.mean(found)


def test_two_places_by_the_definition():
    coords = layout(250)
    near = nearest(folded(coords))
    assert share_in_two_places(coords, near) == pytest.approx(by_two_means(coords, near), abs=0.05)


def test_only_a_repeat_is_in_two_places():
    coords = layout(400)
    rng = np.random.default_rng(3)
    assert share_in_two_places(coords, nearest(folded(coords))) > 0.5
    for blur in (0.0, 1.0, 5.0, 50.0):  # from the tissue itself to chance: one place, ever wider
        other = coords + blur * rng.normal(size=coords.shape)
        assert share_in_two_places(coords, nearest(other)) < 0.2


def test_a_repeat_is_told_from_the_mean_over_slides():
    a, b = (replace(fold(0.5, 4.0), two_places=share) for share in (0.7, 0.2))
    assert Localisability((a, b)).repeated
    assert not Localisability((a, b, b)).repeated
    assert Localisability((a, b)).localisable  # one side can still be laid out
    assert "45%" in repeated_message(0.45)


def test_choice_weighs_distances_and_neighbours():
    good, poor = fold(0.6, 5.0), fold(0.5, 4.0)
    assert score_of([good]) == pytest.approx(1.1)
    assert score_of([good, poor]) == pytest.approx(1.0)
    assert score_of([good]) > score_of([good, poor]) > score_of([poor])
