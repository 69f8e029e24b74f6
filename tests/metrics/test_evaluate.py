from __future__ import annotations

import time

import numpy as np
import pytest

from ipar import metrics

EXPECTED = {
    "n_cells",
    "luna_spearman",
    "luna_spearman_mean",
    "contact_f1_1",
    "contact_f1_10",
    "distance_pearson",
    "procrustes_rmse",
    "procrustes_median",
    "stress1",
    "trustworthiness_20",
    "continuity_20",
    "rssd",
    "coverage",
    "evenness",
    "evenness_ratio",
    "e_geo",
    "e_geo_walk",
    "e_geo_stress",
    "e_geo_whole",
    "e_geo_whole_walk",
    "e_geo_whole_stress",
    *(f"knn_hit_{k}{part}" for k in (10, 20, 50) for part in ("", "_chance", "_ratio")),
}


def test_every_score_is_the_one_of_its_function(layouts):
    true, pred = layouts
    doubts = np.random.default_rng(0).random(150)
    scores = metrics.evaluate(true, pred, uncertainty=doubts)
    assert set(scores) == EXPECTED | {"uncertainty_spearman", "certain_half_error"}
    assert all(isinstance(value, float) and np.isfinite(value) for value in scores.values())
    errors = metrics.cell_errors(true, pred)
    for key, value in {
        "n_cells": 150,
        "luna_spearman": metrics.luna_spearman(true, pred),
        "luna_spearman_mean": metrics.luna_spearman(true, pred, reduce="mean"),
        "contact_f1_1": metrics.contact_f1(true, pred, quantile=0.01),
        "contact_f1_10": metrics.contact_f1(true, pred, quantile=0.1),
        "distance_pearson": metrics.distance_pearson(true, pred),
        "procrustes_rmse": metrics.procrustes_error(true, pred).rmse,
        "procrustes_median": metrics.procrustes_error(true, pred).median,
        "stress1": metrics.stress1(true, pred),
        "trustworthiness_20": metrics.trustworthiness(true, pred),
        "continuity_20": metrics.continuity(true, pred),
        "rssd": metrics.rssd(true, pred),
        "coverage": metrics.coverage(true, pred),
        "evenness": metrics.evenness(pred),
        "evenness_ratio": metrics.evenness(pred) / metrics.evenness(true),
        "knn_hit_20": metrics.knn_hit(true, pred, n_neighbors=20),
        "knn_hit_20_chance": 20 / 149,
        "knn_hit_50_ratio": metrics.knn_hit(true, pred, n_neighbors=50) / (50 / 149),
        "e_geo": metrics.e_geo_minisets(true, pred).total,
        "e_geo_walk": metrics.e_geo_minisets(true, pred).walk,
        "e_geo_stress": metrics.e_geo_minisets(true, pred).stress,
        "e_geo_whole_walk": metrics.e_geo(true, pred).walk,
        "uncertainty_spearman": metrics.uncertainty_spearman(errors, doubts),
        "certain_half_error": metrics.certain_half_error(errors, doubts),
    }.items():
        assert scores[key] == pytest.approx(value), key


def test_no_score_depends_on_frame_unit_or_mirror_of_the_prediction(layouts):
    true, pred = layouts
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = (pred * [1.0, -1.0]) @ turn * 123.0 + [10.0, -55.0]
    a, b = metrics.evaluate(true, pred), metrics.evaluate(true, moved)
    assert set(a) == set(b) == EXPECTED
    for key in a:
        assert a[key] == pytest.approx(b[key], rel=1e-6), key


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_other_number_types_are_accepted(layouts, dtype):
    true, pred = np.round(layouts[0]), np.round(layouts[1] * 1000)
    assert metrics.evaluate(true.astype(dtype), pred.astype(dtype)) == metrics.evaluate(true, pred)


@pytest.mark.parametrize("n", [4, 10, 40, 41])
@pytest.mark.parametrize(
    "degenerate", [np.zeros, lambda shape: np.full(shape, 0.1), lambda shape: np.eye(*shape) * 1e-3]
)
def test_degenerate_predictions_have_a_score_for_everything(layouts, n, degenerate):
    true = layouts[0][:n]
    with np.errstate(all="raise", under="ignore"):
        scores = metrics.evaluate(true, degenerate(true.shape))
    for key, value in scores.items():
        needs = 40 if key.endswith(("ness_20", "ity_20")) else int(key.split("_")[2]) if "knn" in key else 0
        needs = 6 if key.startswith("evenness") else needs
        assert np.isfinite(value) == (n > needs), key


def test_true_layout_on_a_line(layouts):
    line = np.column_stack([layouts[0][:, 0], np.zeros(150)])
    scores = metrics.evaluate(line, layouts[1])
    assert np.isfinite(list(scores.values())).all()
    assert metrics.evaluate(line, line * 2)["luna_spearman"] == pytest.approx(1.0)


def test_same_seed_same_scores_and_no_global_state(layouts):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert metrics.evaluate(*layouts) == metrics.evaluate(*layouts)
    assert metrics.evaluate(*layouts) == metrics.evaluate(*layouts, random_state=np.random.default_rng(0))
    assert metrics.evaluate(*layouts)["e_geo"] != metrics.evaluate(*layouts, random_state=1)["e_geo"]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_large_slides_are_sampled_once_for_all_scores(layouts):
    true, pred = layouts
    doubts = np.arange(150.0)
    scores = metrics.evaluate(true, pred, uncertainty=doubts, max_cells=90)
    cells = np.random.default_rng(0).choice(150, size=90, replace=False)
    assert scores["n_cells"] == 90
    assert scores["luna_spearman"] == pytest.approx(metrics.luna_spearman(true[cells], pred[cells]))
    errors = metrics.cell_errors(true[cells], pred[cells])
    assert scores["uncertainty_spearman"] == pytest.approx(metrics.uncertainty_spearman(errors, doubts[cells]))


def test_whole_slide_energy_only_up_to_its_limit(layouts):
    scores = metrics.evaluate(*layouts, max_whole=149)
    assert np.isnan(scores["e_geo_whole"])
    assert np.isfinite(scores["e_geo"])


def test_options_are_checked(layouts):
    with pytest.raises(ValueError, match="`n_neighbors` must hold counts of at least 1"):
        metrics.evaluate(*layouts, n_neighbors=(0, 5))
    with pytest.raises(ValueError, match="`max_cells` must be at least 4"):
        metrics.evaluate(*layouts, max_cells=3)
    with pytest.raises(ValueError, match=r"`uncertainty` must have shape \(150,\)"):
        metrics.evaluate(*layouts, uncertainty=np.ones(3))


def test_a_slide_of_eleven_hundred_cells_is_scored_in_seconds():
    rng = np.random.default_rng(0)
    true = rng.random((1100, 2))
    pred = true + rng.normal(scale=0.1, size=true.shape)
    start = time.process_time()
    metrics.evaluate(true, pred)
    assert time.process_time() - start < 6  # 1.5 s on one quiet core


@pytest.fixture
def two_slides(layouts):
    true, pred = layouts
    return true, pred, np.array(["s2", "s1"])[(np.arange(150) % 5 < 2).astype(int)]


def test_slides_are_scored_by_themselves(two_slides):
    true, pred, slides = two_slides
    doubts = np.random.default_rng(0).random(150)
    result = metrics.evaluate_slides(true, pred, slides, uncertainty=doubts, n_minisets=2)
    assert list(result) == ["s1", "s2", "mean"]  # order of first appearance
    for name in ("s1", "s2"):
        rows = slides == name
        assert result[name] == metrics.evaluate(true[rows], pred[rows], uncertainty=doubts[rows], n_minisets=2)
    for key in ("luna_spearman", "e_geo", "certain_half_error"):
        assert result["mean"][key] == pytest.approx((result["s1"][key] + result["s2"][key]) / 2)


def test_mean_leaves_out_what_a_slide_cannot_have(two_slides):
    true, pred, _ = two_slides
    slides = np.where(np.arange(150) < 15, 1, 2)
    result = metrics.evaluate_slides(true, pred, slides, n_minisets=1, n_neighbors=(10, 20, 500))
    assert np.isnan(result["1"]["knn_hit_20"])
    assert result["mean"]["knn_hit_20"] == result["2"]["knn_hit_20"]
    assert np.isnan(result["mean"]["knn_hit_500"])


def test_bad_slides_are_named(two_slides):
    true, pred, slides = two_slides
    with pytest.raises(ValueError, match="slide 'tiny': .* at least 4"):
        metrics.evaluate_slides(true, pred, np.where(np.arange(150) < 3, "tiny", slides), n_minisets=1)
    with pytest.raises(ValueError, match=r"`slides` must have shape \(150,\)"):
        metrics.evaluate_slides(true, pred, slides[:-1])
    with pytest.raises(ValueError, match="no label for 2 of 150 cells"):
        metrics.evaluate_slides(true, pred, [None, float("nan"), *slides[2:]])
    with pytest.raises(ValueError, match="rename the slide"):
        metrics.evaluate_slides(true, pred, np.where(slides == "s1", "mean", slides))
