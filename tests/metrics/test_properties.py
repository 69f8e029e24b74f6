"""What must hold of every metric, on layouts that hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipar import metrics

quick = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
SCORES = {
    "knn_hit": lambda true, pred: metrics.knn_hit(true, pred, n_neighbors=5),
    "trustworthiness": lambda true, pred: metrics.trustworthiness(true, pred, n_neighbors=5),
    "continuity": lambda true, pred: metrics.continuity(true, pred, n_neighbors=5),
    "luna_spearman": metrics.luna_spearman,
    "contact_f1": lambda true, pred: metrics.contact_f1(true, pred, quantile=0.1),
    "distance_pearson": metrics.distance_pearson,
    "stress1": metrics.stress1,
    "procrustes_rmse": lambda true, pred: metrics.procrustes_error(true, pred).rmse,
    "rssd": metrics.rssd,
    "coverage": metrics.coverage,
    "e_geo": lambda true, pred: metrics.e_geo(true, pred).total,
}
PERFECT = dict.fromkeys(SCORES, 1.0) | dict.fromkeys(("stress1", "procrustes_rmse", "rssd", "e_geo"), 0.0)


@st.composite
def similarities(draw):
    """A turn, perhaps a reflection, a scale and a shift, as a function of a layout."""
    angle, scale = draw(st.floats(-np.pi, np.pi)), draw(st.floats(1e-2, 1e2))
    mirror, shift = draw(st.sampled_from([-1.0, 1.0])), draw(st.tuples(*[st.floats(-100, 100)] * 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return lambda x: scale * (x * [mirror, 1.0]) @ turn + shift


def pair(seed, n=40):
    """A tissue in any unit and a prediction of it, between good and useless."""
    rng = np.random.default_rng(seed)
    true = rng.random((n, 2)) * rng.uniform(0.5, 500, size=2)
    return true, true + rng.normal(size=(n, 2)) * true.std(axis=0) * rng.uniform(0, 2)


@pytest.mark.parametrize("name", SCORES)
@quick
@given(seeds, similarities())
def test_no_similarity_of_the_prediction_changes_a_score(name, seed, similarity):
    true, pred = pair(seed)
    assert SCORES[name](true, similarity(pred)) == pytest.approx(SCORES[name](true, pred), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", SCORES)
@quick
@given(seeds, similarities())
def test_the_truth_in_any_frame_scores_best(name, seed, similarity):
    true, _ = pair(seed)
    assert SCORES[name](true, similarity(true)) == pytest.approx(PERFECT[name], abs=1e-6)


@pytest.mark.parametrize("name", ["knn_hit", "trustworthiness", "continuity", "contact_f1", "stress1", "coverage"])
@quick
@given(seeds)
def test_shares_lie_between_0_and_1(name, seed):
    assert 0 <= SCORES[name](*pair(seed)) <= 1


@quick
@given(seeds, seeds)
def test_no_score_depends_on_the_order_of_the_cells(seed, order):
    true, pred = pair(seed)
    rows = np.random.default_rng(order).permutation(len(true))
    for name in sorted(SCORES.keys() - {"e_geo"}):  # which draws its edges by row
        assert SCORES[name](true[rows], pred[rows]) == pytest.approx(SCORES[name](true, pred), abs=1e-9)


@quick
@given(seeds, st.integers(2, 50))
def test_scores_of_uncertainty(seed, n):
    rng = np.random.default_rng(seed)
    error = rng.exponential(size=n)
    assert metrics.uncertainty_spearman(error, np.exp(error)) == pytest.approx(1.0)
    assert metrics.uncertainty_spearman(error, -error) == pytest.approx(-1.0)
    doubts = rng.random(n)
    assert metrics.certain_half_error(error, error) <= metrics.certain_half_error(error, doubts) + 1e-12
