"""Absolute signs of cells, against formulations of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from ipar.model.covariation import Covariation, agreement
from ipar.model.resemblance import Known, Resemblance, Signs, landmarks_of, rank_among, shortfall
from ipar.model.slide_pcs import unit_rows

N_GENES = 40


def csr(x):
    return sparse.csr_matrix(x, dtype=np.float32)


def slide(n=400, *, tissue=0, seed=0, noise=0.3, offset=0.0):
    """Cells whose genes follow four factors of a tissue."""
    loadings = np.random.default_rng(100 + tissue).normal(size=(4, N_GENES))
    level = np.random.default_rng(200 + tissue).uniform(1, 6, N_GENES)
    rng = np.random.default_rng(seed)
    return np.maximum(
        level + offset + 0.4 * rng.normal(size=(n, 4)) @ loadings + noise * rng.normal(size=(n, N_GENES)), 0
    )


@pytest.fixture(scope="module")
def covariation():
    return Covariation.of([csr(slide(seed=1)), csr(slide(seed=2, offset=1.0))])


def test_halves_tell_each_other_by_the_best_linear_prediction(covariation):
    """The conditional mean of one half given the other, by the joint covariance of the factor model."""
    x = slide(seed=3)
    centred = (x - x.mean(axis=0))[:, covariation.genes]
    loadings, noise = covariation.loadings.astype(float), covariation.noise.astype(float)
    joint = loadings @ loadings.T + np.diag(noise)
    expected = np.zeros_like(centred)
    for half in (covariation.first, ~covariation.first):
        gain = joint[np.ix_(~half, half)] @ np.linalg.inv(joint[np.ix_(half, half)])
        expected[:, ~half] = centred[:, half] @ gain.T
    scale = 1 / noise
    own = np.stack(
        [(centred * expected * scale).sum(1), (centred**2 * scale).sum(1), (expected**2 * scale).sum(1)], axis=1
    )
    np.testing.assert_allclose(covariation.sums(csr(x)), own, rtol=2e-3, atol=1e-2)
    whole = np.sqrt(scale)
    flat = np.corrcoef((centred * whole).ravel(), (expected * whole).ravel())[0, 1]
    assert agreement(covariation.sums(csr(x)).sum(axis=0)) == pytest.approx(flat, abs=0.01)


def test_agreement_is_that_of_the_tissue(covariation):
    own = agreement(covariation.sums(csr(slide(seed=4))).sum(axis=0))
    other = agreement(covariation.sums(csr(slide(tissue=1))).sum(axis=0))
    x = slide(seed=4)
    rng = np.random.default_rng(0)
    nothing = agreement(covariation.sums(csr(np.stack([rng.permutation(g) for g in x.T], axis=1))).sum(axis=0))
    assert own > 0.5
    assert other < 0.5 * own
    assert abs(nothing) < 0.05


def test_cells_without_counts_do_not_count(covariation):
    x = slide(seed=4)
    both = np.concatenate([x, np.zeros((100, N_GENES))])
    sums = covariation.sums(csr(both))
    np.testing.assert_allclose(sums[:400], covariation.sums(csr(x)), rtol=1e-3, atol=1e-3)
    assert (sums[400:] == 0).all()


def test_the_profile_compares_mean_expression(covariation):
    assert covariation.profile(csr(slide(seed=5))) > 0.98
    assert covariation.profile(csr(slide(tissue=1))) < 0.5
    assert covariation.profile(csr(np.zeros((5, N_GENES)))) == 0


def known_of(covariation):
    x = slide(seed=1)
    embedding = (x - x.mean(axis=0)).astype(np.float32)
    return Known(covariation, landmarks_of(embedding, 200), float(N_GENES)), embedding


def test_signs_of_cells(covariation):
    known, embedding = known_of(covariation)
    x = slide(seed=1)
    x[7] = 0
    signs = known.signs(csr(x), embedding)
    assert signs.cells.shape == (400, 3)
    cosine = unit_rows(embedding) @ known.landmarks.astype(np.float32).T
    np.testing.assert_allclose(signs.cells[:, 1], cosine.max(axis=1), atol=5e-4)
    detected = (x > 0).sum(axis=1)
    np.testing.assert_allclose(signs.cells[:, 2], np.log((1 + detected) / (1 + N_GENES)), atol=1e-5)
    assert signs.cells[7, 2] == pytest.approx(-np.log(1 + N_GENES))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_cells_have_signs(covariation, n):
    known, embedding = known_of(covariation)
    signs = known.signs(csr(slide(seed=1)[:n]), embedding[:n])
    assert np.isfinite(signs.cells).all()
    assert np.isfinite(signs.slide).all()


def resemblance(covariation, **changes):
    levels = np.linspace(0, 1, 101)
    found = Resemblance(
        known=known_of(covariation)[0],
        slides=np.arctanh([[0.5, 0.95], [0.55, 0.97], [0.52, 0.96]]),
        threshold=3.0,
        cells=np.stack([levels, levels, levels / 2]),
        centre=np.array([0.5, 0.5, 0.0]),
        weights=np.array([1.0, 1.0, 0.1]),
        knots=np.array([[-1.0, -0.5, 0.0], [0.0, 0.4, 1.0]]),
    )
    return replace(found, **changes)


def signs_of(agreement=0.5, profile=0.99, cells=((0.5, 0.5, 0.0),)):
    return Signs(np.array(cells, dtype=float), agreement, profile)


def test_the_distance_grows_with_what_is_missing_and_not_with_what_is_more(covariation):
    found = resemblance(covariation)
    assert found.distance(signs_of(0.9, 0.999)) == 0
    less = [found.distance(signs_of(agreement)) for agreement in (0.45, 0.3, 0.1)]
    assert 0 < less[0] < less[1] < less[2]
    both = found.distance(signs_of(0.1, 0.3))
    assert both**2 == pytest.approx(less[2] ** 2 + found.distance(signs_of(0.9, 0.3)) ** 2, rel=1e-3)
    assert found.distance(signs_of(0.1, 0.3), adapted=True) == pytest.approx(less[2])


def test_slides_that_are_alike_do_not_make_others_foreign():
    """The spread of blocks of one section is not that of animals."""
    alike = np.arctanh([[0.5, 0.96], [0.5, 0.96]])
    assert (shortfall(np.arctanh([0.47, 0.95]), alike, (0.07, 0.35), 0.25) < 1).all()


def test_errors_of_usual_cells_stay_and_those_of_others_approach_the_radius(covariation):
    found, expected = resemblance(covariation), np.array([0.3, 0.3, 0.3, 1.2])
    cells = [(0.9, 0.9, 0.0), (0.2, 0.3, 0.0), (-0.5, 0.0, -3.0), (-0.5, 0.0, -3.0)]
    error = found.error(expected, signs_of(cells=cells))
    assert error[0] == pytest.approx(0.3)
    assert 0.3 < error[1] < 1
    assert error[2] == error[3] == pytest.approx(1.0)


def test_of_a_foreign_slide_less_is_known(covariation):
    found, expected = resemblance(covariation), np.array([0.3])
    errors = [
        found.error(expected, signs_of(profile=profile, cells=[(0.9, 0.9, 0.0)]))[0] for profile in (0.9, 0.6, 0.1)
    ]
    assert errors[0] == pytest.approx(0.3)
    assert 0.3 < errors[1] < errors[2] < 1
    adapted = found.error(expected, signs_of(profile=0.1, cells=[(0.9, 0.9, 0.0)]), adapted=True)
    assert adapted[0] == pytest.approx(0.3)


def test_poor_agreement_is_counted_once(covariation):
    """It lowers what is kept of single cells already."""
    found, expected = resemblance(covariation), np.array([0.3])
    cells = [(0.1, 0.9, -1.0)]
    disagreeing, agreeing = signs_of(agreement=0.0, cells=cells), signs_of(agreement=0.5, cells=cells)
    assert found.distance(disagreeing) > found.threshold
    assert found.error(expected, disagreeing)[0] == found.error(expected, agreeing)[0]


def test_nothing_in_common_is_far_away_where_little_is_usual(covariation):
    weak = resemblance(covariation, slides=np.arctanh([[0.15, 0.95], [0.17, 0.97]]))
    assert weak.distance(signs_of(0.0, 0.97)) > weak.threshold
    assert weak.distance(signs_of(0.13, 0.97)) < weak.threshold


def test_belonging_goes_by_the_worse_sign(covariation):
    found = resemblance(covariation)
    cells = [(0.9, 0.9, 0.0), (0.9, 0.1, 0.0), (0.1, 0.9, 0.0), (-1.0, 0.9, 0.0)]
    belongs = found.belongs(signs_of(cells=cells))
    assert belongs[0] == 1
    assert belongs[1] == belongs[2] == pytest.approx(0.2)
    assert belongs[3] == 0


def test_ranks_of_left_out_cells_are_even():
    values = expit(np.random.default_rng(0).normal(size=5000))
    ranks = rank_among(values, np.quantile(values, np.linspace(0, 1, 101)))
    np.testing.assert_allclose(np.quantile(ranks, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)


def test_round_trip(covariation):
    found = resemblance(covariation)
    config, arrays = found.state()
    back = Resemblance.from_state(config, arrays)
    signs = found.known.signs(csr(slide(seed=6)), known_of(covariation)[1])
    again = back.known.signs(csr(slide(seed=6)), known_of(covariation)[1])
    np.testing.assert_array_equal(signs.cells, again.cells)
    assert back.distance(again) == found.distance(signs)
    np.testing.assert_array_equal(back.error(np.full(400, 0.4), again), found.error(np.full(400, 0.4), signs))
