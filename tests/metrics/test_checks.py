from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from ipar import metrics

PAIR_SCORES = [
    metrics.cell_errors,
    metrics.contact_f1,
    metrics.continuity,
    metrics.coverage,
    metrics.distance_pearson,
    metrics.e_geo,
    metrics.e_geo_minisets,
    metrics.evaluate,
    metrics.knn_hit,
    metrics.luna_spearman,
    metrics.procrustes_align,
    metrics.procrustes_error,
    metrics.rssd,
    metrics.stress1,
    metrics.trustworthiness,
]


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_bad_layouts_are_refused_with_a_reason(score, layouts):
    true, pred = layouts
    with pytest.raises(ValueError, match="`true` has 150 cells and `pred` 149; both must hold the same cells"):
        score(true, pred[:-1])
    with pytest.raises(ValueError, match=r"`pred` must have shape \(n_cells, 2\), found \(150, 3\)"):
        score(true, np.ones((150, 3)))
    with pytest.raises(ValueError, match=r"`true` must have shape \(n_cells, 2\), found \(150,\)"):
        score(true[:, 0], pred)
    with pytest.raises(ValueError, match="`pred` is NaN or infinite in 2 of 150 cells"):
        score(true, np.where(np.isin(np.arange(150), [3, 8])[:, None], [np.nan, np.inf], pred))
    with pytest.raises(ValueError, match="`true` has 3 cells; the metrics need at least 4"):
        score(true[:3], pred[:3])
    with pytest.raises(ValueError, match="all cells of `true` lie on one point"):
        score(np.full((150, 2), 0.1), pred)


@pytest.mark.parametrize("bad", [[["a", "b"]] * 5, csr_array(np.ones((5, 2))), [[1, 2], [3]]])
def test_what_is_no_dense_array_of_numbers_is_a_type_error(bad):
    with pytest.raises(TypeError, match="`pred` must be a dense numeric array"):
        metrics.stress1(np.random.default_rng(0).random((5, 2)), bad)


def test_every_public_name_exists_and_is_documented():
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__, name
