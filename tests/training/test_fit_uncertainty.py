from __future__ import annotations

import numpy as np
import pytest

from ipar._run import Run
from ipar.metrics import cell_errors, uncertainty_spearman
from ipar.model import Features
from ipar.training import UncertaintyRecipe
from ipar.training.uncertainty import beside_samples, fit_uncertainty, scaled_to

D = 12
FAR = np.arange(4, D)


def sections(n_slides, *, n=240, seed=0, noise=1.0):
    """Embeddings that hold the position blurred, by very different amounts on two kinds of tissue, and the kind."""
    rng = np.random.default_rng(seed)
    h, coords = [], []
    for _ in range(n_slides):
        place = rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(n, 2))
        hard = place[:, :1] + place[:, 1:] > 0
        blurred = place + noise * np.where(hard, 0.6, 0.1) * rng.normal(size=(n, 2))
        kind = np.where(hard, 1.0, -1.0) + 0.3 * rng.normal(size=(n, 4))
        # the far part is wide: the kind of tissue must not be seen in its first two components
        far = np.c_[4 * blurred, 0.2 * rng.normal(size=(n, D - 6))]
        h.append(np.c_[kind, far].astype(np.float32))
        coords.append((300 * place).astype(np.float32))
    return h, coords


@pytest.fixture(scope="module")
def fit():
    return fitted_to(*sections(3))


def known(h):
    return Features(h, h[:, FAR])


def fitted_to(h, coords):
    return fit_uncertainty([known(x) for x in h], coords, UncertaintyRecipe(), Run())


def map_of(h):
    far = h[:, FAR] - h[:, FAR].mean(0)
    return far @ np.linalg.svd(far, full_matrices=False)[2][:2].T


def test_an_unseen_section_is_ranked_and_its_errors_are_met(fit):
    (h,), (coords,) = sections(1, seed=7)
    found = fit.head.expected_error(known(h))
    error = cell_errors(coords, map_of(h))
    assert found.shape == (240,)
    assert uncertainty_spearman(error, found) > 0.5
    assert found.mean() == pytest.approx(error.mean(), rel=0.15)
    for half in (found > np.median(found), found <= np.median(found)):
        assert found[half].mean() == pytest.approx(error[half].mean(), rel=0.35)


def test_what_is_said_of_it_holds_on_an_unseen_section(fit):
    (h,), (coords,) = sections(1, seed=8)
    error, found = cell_errors(coords, map_of(h)), fit.head.expected_error(known(h))
    assert fit.spearman == pytest.approx(uncertainty_spearman(error, found), abs=0.15)
    assert 0 < fit.certain_half < 0.8


def test_where_nothing_tells_errors_the_figure_says_so():
    h, coords = sections(3)
    rng = np.random.default_rng(1)
    fit = fitted_to(h, [rng.permutation(x) for x in coords])
    assert abs(fit.spearman) < 0.2
    # the level is still right: everything is about as wrong as everything else
    assert np.ptp(fit.head.knots[1]) < 0.3 * fit.head.knots[1].mean()


def test_the_map_to_errors_rises(fit):
    assert (np.diff(fit.head.knots[0]) > 0).all()
    assert (np.diff(fit.head.knots[1]) >= 0).all()
    assert (fit.head.knots[1] > 0).all()


def test_scaled_to_the_finished_layout(fit):
    (h,), (coords,) = sections(1, seed=9)
    same = scaled_to(fit.head, known(h), map_of(h), coords)
    np.testing.assert_allclose(same.knots, fit.head.knots, rtol=1e-4)
    halved = coords + 0.5 * 300 * (map_of(h) * 0)  # the truth itself has no error left
    assert scaled_to(fit.head, known(h), halved, coords).knots[1].max() < 1e-3


def test_more_slides_make_errors_smaller_and_nothing_known_stays_so():
    recipe = UncertaintyRecipe(growth=1.0)
    assert recipe.with_all_slides(0.5, 1.0) == pytest.approx(1.0)
    small = 1e-3  # where the square falls as one over the slides, as that of a mean of independent ones
    assert recipe.with_all_slides(small, 0.5) == pytest.approx(0.5**0.5, rel=1e-4)
    assert recipe.with_all_slides(1.0, 0.5) == recipe.with_all_slides(1.3, 0.5) == pytest.approx(1.0)
    half, again = recipe.with_all_slides(0.6, 0.5), recipe.with_all_slides(0.6 * recipe.with_all_slides(0.6, 0.5), 0.5)
    assert half * again == pytest.approx(recipe.with_all_slides(0.6, 0.25))
    assert UncertaintyRecipe(growth=0.0).with_all_slides(0.6, 0.5) == pytest.approx(1.0)


def test_samples_help_where_the_head_fails_and_do_little_harm_where_they_do():
    h, coords = sections(3)
    rng = np.random.default_rng(1)
    lost = fitted_to(h, [rng.permutation(x) for x in coords])  # a head that has learned nothing
    errors = cell_errors(coords[2], map_of(h[2]))
    told = (errors * rng.lognormal(sigma=0.5, size=240)).astype(np.float32)
    alone = uncertainty_spearman(errors, lost.values[2])
    head, ranks = beside_samples(lost.head, lost.values[2], told, map_of(h[2]), coords[2], UncertaintyRecipe())
    assert ranks["uncertainty_spearman"] > max(alone, 0.0) + 0.3
    assert 0 < ranks["certain_half_error"] < 0.75
    found = head.expected_error(known(h[2]), told)
    assert found.mean() == pytest.approx(errors.mean(), rel=0.15)
    assert (np.diff(head.joint) >= 0).all()
    good = fitted_to(h, coords)
    noise = rng.random(240).astype(np.float32)
    _, ranks = beside_samples(good.head, good.values[2], noise, map_of(h[2]), coords[2], UncertaintyRecipe())
    assert ranks["uncertainty_spearman"] > 0.5 * uncertainty_spearman(errors, good.values[2])


def test_values_are_those_of_heads_that_have_not_seen_the_slide(fit):
    h, coords = sections(3)
    others = fitted_to(h[:2], coords[:2]).head.value(known(h[2]))
    assert np.corrcoef(fit.values[2], others)[0, 1] > 0.99  # the components are those of all three slides


def test_frames_of_slides_do_not_matter_and_the_seed_repeats(fit, global_random_state):
    h, coords = sections(3)
    moved = fitted_to(h, [0.01 * x[:, ::-1] + 40 for x in coords])
    np.testing.assert_allclose(moved.head.weights, fit.head.weights, rtol=1e-2, atol=1e-3)
    again = fitted_to(*sections(3))
    assert np.array_equal(again.head.landmarks, fit.head.landmarks)
    assert np.array_equal(again.head.weights, fit.head.weights)


def test_a_space_of_its_own_for_every_slide_is_no_harm(fit):
    h, coords = sections(3)
    rng = np.random.default_rng(2)
    turns = [np.linalg.qr(rng.normal(size=(D - 4, D - 4)))[0] for _ in h]
    features = [Features(x, (x[:, FAR] @ turn).astype(np.float32)) for x, turn in zip(h, turns, strict=True)]
    turned = fit_uncertainty(features, coords, UncertaintyRecipe(), Run())
    assert turned.spearman == pytest.approx(fit.spearman, abs=0.02)
    np.testing.assert_allclose(turned.head.knots, fit.head.knots, rtol=0.05, atol=0.05)
