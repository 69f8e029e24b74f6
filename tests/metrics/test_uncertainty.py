from __future__ import annotations

import numpy as np
import pytest

from ipar.metrics import certain_half_error, uncertainty_spearman


def ranks(values):
    # average rank by counting, no sorting
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@pytest.fixture
def errors():
    return np.random.default_rng(0).gamma(2.0, size=101)


def test_spearman_is_pearson_of_ranks(errors):
    doubts = np.round(errors + np.random.default_rng(1).normal(size=101))  # with ties
    expected = np.corrcoef(ranks(errors), ranks(doubts))[0, 1]
    assert uncertainty_spearman(errors, doubts) == pytest.approx(expected)
    assert uncertainty_spearman(errors, np.exp(errors)) == pytest.approx(1.0)
    assert uncertainty_spearman(errors, -errors) == pytest.approx(-1.0)


@pytest.mark.parametrize("n", [100, 101])
def test_certain_half_against_sorting(errors, n):
    errors = errors[:n]
    doubts = np.random.default_rng(2).normal(size=n)
    kept = sorted(range(n), key=lambda i: doubts[i])[: -(-n // 2)]
    assert certain_half_error(errors, doubts) == pytest.approx(np.mean([errors[i] for i in kept]) / errors.mean())


def test_certain_half_averages_over_the_order_of_ties(errors):
    doubts = np.random.default_rng(3).integers(0, 3, size=101).astype(float)
    rng = np.random.default_rng(4)
    trials = [certain_half_error(errors, doubts + rng.random(101) * 1e-6) for _ in range(2000)]
    assert certain_half_error(errors, doubts) == pytest.approx(np.mean(trials), abs=5 * np.std(trials) / np.sqrt(2000))


def test_certain_half_range(errors):
    assert certain_half_error(errors, errors) < 0.7
    assert certain_half_error(errors, -errors) > 1.3


def test_constant_inputs_tell_nothing(errors):
    assert uncertainty_spearman(errors, np.ones(101)) == 0.0
    assert uncertainty_spearman(np.zeros(101), errors) == 0.0
    assert certain_half_error(errors, np.ones(101)) == pytest.approx(1.0)
    assert certain_half_error(np.zeros(101), errors) == 1.0


def test_bad_input_is_named(errors):
    with pytest.raises(ValueError, match=r"`uncertainty` must have shape \(101,\)"):
        uncertainty_spearman(errors, errors[1:])
    with pytest.raises(ValueError, match="`error` has negative values"):
        certain_half_error(-errors, errors)
    with pytest.raises(ValueError, match="`uncertainty` is NaN or infinite in 1 of 101"):
        certain_half_error(errors, np.where(np.arange(101) == 5, np.nan, errors))
    with pytest.raises(TypeError, match="`error` must be a dense numeric vector"):
        certain_half_error(["far", "near"], [1, 2])
    with pytest.raises(ValueError, match="at least 2"):
        uncertainty_spearman([1.0], [1.0])
