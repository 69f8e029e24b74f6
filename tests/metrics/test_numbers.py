"""Scores of any scale, precision and degenerate layout: the same as at an ordinary scale, or a clear error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr

from ipar import metrics

quick = settings(max_examples=30, deadline=None, derandomize=True)
SCALES = st.sampled_from([1e-300, 1e-200, 1e-30, 1e-3, 1.0, 1e6, 1e30, 1e200, 1e300])
SEEDS = st.integers(0, 2**32 - 1)
SCORES = {
    "knn_hit": lambda true, pred: metrics.knn_hit(true, pred, n_neighbors=3),
    "trustworthiness": lambda true, pred: metrics.trustworthiness(true, pred, n_neighbors=3),
    "continuity": lambda true, pred: metrics.continuity(true, pred, n_neighbors=3),
    "luna_spearman": metrics.luna_spearman,
    "contact_f1": lambda true, pred: metrics.contact_f1(true, pred, quantile=0.1),
    "distance_pearson": metrics.distance_pearson,
    "stress1": metrics.stress1,
    "procrustes_rmse": lambda true, pred: metrics.procrustes_error(true, pred).rmse,
    "procrustes_median": lambda true, pred: metrics.procrustes_error(true, pred).median,
    "cell_errors": lambda true, pred: float(metrics.cell_errors(true, pred).max()),
    "rssd": metrics.rssd,
    "coverage": metrics.coverage,
    "e_geo": lambda true, pred: metrics.e_geo(true, pred).total,
    "evenness": lambda true, pred: metrics.evenness(pred, n_neighbors=3),
    "collapse": lambda true, pred: float(np.sum(metrics.collapse(pred))),
}
EVERY = pytest.mark.parametrize("name", SCORES)


def pair(seed, n=24):
    rng = np.random.default_rng(seed)
    true = rng.random((n, 2))
    return true, true + 0.3 * rng.normal(size=(n, 2))


@EVERY
@quick
@given(SEEDS, SCALES, SCALES)
def test_no_scale_changes_a_score(name, seed, of_truth, of_layout):
    true, pred = pair(seed)
    with np.errstate(all="raise", under="ignore"):
        assert SCORES[name](of_truth * true, of_layout * pred) == pytest.approx(
            SCORES[name](true, pred), rel=1e-6, abs=1e-9
        )


@EVERY
@quick
@given(SEEDS)
def test_single_precision_is_as_good_as_its_digits(name, seed):
    true, pred = pair(seed)
    rough = [x.astype(np.float32) for x in (true, pred)]
    exact = [x.astype(np.float64) for x in rough]
    assert SCORES[name](*rough) == SCORES[name](*exact)


@EVERY
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
@pytest.mark.parametrize(
    "layout",
    [
        lambda rng, n: np.zeros((n, 2)),
        lambda rng, n: np.full((n, 2), 0.7),
        lambda rng, n: np.repeat(rng.random((2, 2)), [n - 1, 1], axis=0),
        lambda rng, n: rng.random((n, 1)) * [1.0, 2.0],
        lambda rng, n: np.round(rng.random((n, 2)) * 2),
    ],
    ids=["origin", "one point", "two points", "line", "few places"],
)
def test_degenerate_layouts_have_finite_scores(name, layout, scale):
    rng = np.random.default_rng(0)
    true, _ = pair(0)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(SCORES[name](true, scale * layout(rng, len(true))))


@EVERY
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_cells_are_refused(name, n):
    true, pred = pair(0)
    with pytest.raises(ValueError, match="need at least 4"):
        SCORES[name](true[:n], pred[:n])


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("evenness", "collapse")])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_a_truth_on_one_point_is_refused(name, scale):
    _, pred = pair(0)
    with pytest.raises(ValueError, match="lie on one point"):
        SCORES[name](np.full_like(pred, scale), pred)


@quick
@given(SEEDS)
def test_scores_agree_with_sums_over_pairs(seed):
    true, pred = pair(seed, n=12)
    upper = np.triu_indices(12, 1)
    a, b = cdist(true, true)[upper], cdist(pred, pred)[upper]
    assert metrics.distance_pearson(true, pred) == pytest.approx(pearsonr(a, b).statistic)
    best = min(np.sqrt(((a - s * b) ** 2).sum() / (a**2).sum()) for s in np.linspace(0, 3, 20_001))
    assert metrics.stress1(true, pred) == pytest.approx(best, abs=1e-6)
    near = [
        set(np.argsort(cdist(x, x) + np.diag([np.inf] * 12), axis=1)[i, :3]) for x in (true, pred) for i in range(12)
    ]
    hit = np.mean([len(near[i] & near[12 + i]) / 3 for i in range(12)])
    assert metrics.knn_hit(true, pred, n_neighbors=3) == pytest.approx(hit)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1.0, 1e150, 1e300])
def test_regions_hold_points_at_any_scale(scale):
    rng = np.random.default_rng(0)
    points, places, radii = rng.random((30, 2)), rng.random((30, 4, 2)), 0.3 * rng.random((30, 2))
    expected = metrics.in_regions(points, places, radii)
    assert expected.any()
    np.testing.assert_array_equal(metrics.in_regions(scale * points, scale * places, scale * radii), expected)


def test_areas_that_no_number_holds_are_refused():
    with pytest.raises(ValueError, match="in a larger unit"):
        metrics.region_area(np.zeros((3, 1, 2)), np.full(3, 1e200))
