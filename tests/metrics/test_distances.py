from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial import distance_matrix
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import f1_score

from ipar.metrics import _distances, contact_f1, distance_pearson, luna_spearman, procrustes_align, stress1


def box(coords):
    low, high = coords.min(axis=0), coords.max(axis=0)
    return (coords - (low + high) / 2) / (high - low)


def lattice(side):
    return np.array([(x, y) for x in range(side) for y in range(side)], dtype=float)


def spearman_loop(true, pred):
    a, b = distance_matrix(true, true), distance_matrix(pred, pred)
    return np.array([spearmanr(a[i], b[i]).statistic for i in range(len(a))])


@pytest.mark.parametrize("align", [True, False])
def test_luna_spearman_against_scipy_row_by_row(layouts, align):
    true, pred = layouts
    expected = spearman_loop(box(true), box(procrustes_align(true, pred) if align else pred))
    assert luna_spearman(true, pred, align=align) == pytest.approx(np.median(expected), abs=1e-12)
    assert luna_spearman(true, pred, align=align, reduce="mean") == pytest.approx(expected.mean(), abs=1e-12)


def test_ranks_share_ties_as_scipy_does():
    rows = np.random.default_rng(0).integers(0, 6, size=(40, 25)).astype(float)
    rows[3] = np.arange(25)[::-1]  # one row without ties among tied ones
    rows[4] = 2.0
    expected = rankdata(rows, axis=1)
    np.testing.assert_allclose(_distances._centred_ranks(rows), expected - expected.mean(axis=1, keepdims=True))


def test_luna_spearman_does_not_depend_on_the_block_size(layouts):
    blocks = _distances.row_spearman(*layouts, align=True, block=7 * 150)  # of 7 rows, the last one short
    assert np.median(blocks) == luna_spearman(*layouts)


def test_alignment_makes_luna_spearman_rotation_invariant(layouts):
    true, pred = layouts
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    stretched = pred * [1.0, 3.0]  # the box of an elongated layout depends on how it is turned
    assert luna_spearman(true, stretched @ turn) == pytest.approx(luna_spearman(true, stretched), abs=1e-9)
    assert abs(luna_spearman(true, stretched @ turn, align=False) - luna_spearman(true, stretched, align=False)) > 1e-3


def test_luna_spearman_refuses_another_reduction(layouts):
    with pytest.raises(ValueError, match="reduce must be one of .*, found 'max'"):
        luna_spearman(*layouts, reduce="max")


def contact_f1_flat(true, pred, quantile):
    a, b = distance_matrix(true, true).ravel(), distance_matrix(pred, pred).ravel()
    keep = np.flatnonzero(a * b)
    a, b = a[keep], b[keep]
    return f1_score(a < np.quantile(a, quantile), b < np.quantile(b, quantile))


@pytest.mark.parametrize("quantile", [0.003, 0.01, 0.1, 0.5, 0.97])
def test_contact_f1_against_the_flattened_matrices(layouts, quantile):
    true, pred = layouts
    assert contact_f1(true, pred, quantile=quantile) == pytest.approx(contact_f1_flat(true, pred, quantile), abs=1e-12)


def test_contact_f1_drops_coincident_pairs_and_keeps_ties_out(layouts):
    _, pred = layouts
    true = lattice(12)  # heavily tied distances
    pred = pred[:144].copy()
    pred[10:30] = pred[10]  # zero distances
    for quantile in (0.01, 0.1, 0.3):
        expected = contact_f1_flat(true, pred, quantile)
        assert contact_f1(true, pred, quantile=quantile) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [4, 5, 6, 9])
def test_quantile_of_the_full_matrix_for_few_cells(n):
    rng = np.random.default_rng(n)
    for quantile in (0.01, 0.25, 0.5, 0.9):
        condensed = rng.random(n * (n - 1) // 2)
        expected = np.quantile(np.repeat(condensed, 2), quantile)
        assert _distances._full_matrix_quantile(condensed, quantile) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, float("nan")])
def test_contact_f1_refuses_a_quantile_outside_the_open_interval(layouts, quantile):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        contact_f1(*layouts, quantile=quantile)


def upper(coords):
    return distance_matrix(coords, coords)[np.triu_indices(len(coords), 1)]


def test_distance_pearson_against_scipy(layouts):
    true, pred = layouts
    assert distance_pearson(true, pred) == pytest.approx(pearsonr(upper(true), upper(pred)).statistic, abs=1e-12)


def test_stress1_against_a_numerical_search_of_the_scale(layouts):
    true, pred = layouts
    a, b = upper(true), upper(pred)
    search = minimize_scalar(lambda s: np.sqrt(np.sum((a - s * b) ** 2) / np.sum(a**2)), bounds=(0, 1e4))
    assert stress1(true, pred) == pytest.approx(search.fun, rel=1e-6)


def test_perfect_and_collapsed_predictions(layouts):
    true, _ = layouts
    same, point = true[:, ::-1] * 3.0 - 7.0, np.full_like(true, 0.3)
    assert luna_spearman(true, same) == pytest.approx(1.0)
    assert contact_f1(true, same, quantile=0.1) == pytest.approx(1.0)
    assert distance_pearson(true, same) == pytest.approx(1.0)
    assert stress1(true, same) == pytest.approx(0.0, abs=1e-12)
    assert luna_spearman(true, point) == luna_spearman(true, point, reduce="mean") == 0.0
    assert contact_f1(true, point) == 0.0
    assert distance_pearson(true, point) == 0.0
    assert stress1(true, point) == 1.0


def test_prediction_on_a_line_does_not_amplify_rounding():
    # mirrored about its middle, the tissue leaves the second axis of the aligned line with nothing but rounding
    half = np.random.default_rng(12).random((60, 2))
    true = np.vstack([half, half * [1.0, -1.0]])
    line = np.outer(true[:, 0], [1.0, 1.7]) + 100.0
    assert 0 < np.ptp(procrustes_align(true, line)[:, 1]) < 1e-9
    expected = spearman_loop(box(true), np.outer(true[:, 0], [1.0, 0.0]))
    assert luna_spearman(true, line, reduce="mean") == pytest.approx(expected.mean(), abs=1e-3)
