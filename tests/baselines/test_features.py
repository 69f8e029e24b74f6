from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from ipar.baselines.inputs import principal_components, unit_scale


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(80, 6)) * [9, 5, 3, 2, 1, 0.5]).astype(np.float32)
    return x - x.mean(axis=0), rng.normal(size=(20, 6)).astype(np.float32)


def test_unit_scale_divides_both_by_one_number(matrices):
    x, query = matrices
    scaled, other = unit_scale(x, query)
    assert np.mean(scaled**2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(scaled[0, 0] / x[0, 0] * query, other, rtol=1e-5)


def test_constant_expression_survives():
    zeros = np.zeros((5, 3), dtype=np.float32)
    assert np.isfinite(unit_scale(zeros, zeros)[0]).all()
    with np.errstate(invalid="ignore"):  # shares of no variance, which nothing reads
        assert np.isfinite(principal_components(zeros, zeros, 2, seed=0)[1]).all()


def test_raw_components_keep_distances_and_whitened_ones_have_one_scale(matrices):
    x, query = matrices
    raw, raw_query = principal_components(x, query, 6, seed=0, power=0)
    ratio = pdist(np.concatenate([raw, raw_query])) / pdist(np.concatenate([x, query]))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    whitened, _ = principal_components(x, query, 6, seed=0, power=1)
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(6), atol=1e-4)


def test_no_more_components_than_there_are(matrices):
    x, query = matrices
    assert principal_components(x, query, 50, seed=0)[1].shape == (20, 6)
