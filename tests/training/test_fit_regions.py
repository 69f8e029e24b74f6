from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ipar._run import Run
from ipar.metrics import in_regions
from ipar.metrics._alignment import turned_onto
from ipar.model import Features
from ipar.model.blend import global_map
from ipar.model.regions import place_scores
from ipar.training import RegionRecipe
from ipar.training.regions import LeftOut, fit_regions, with_flow

LEVELS = (0.5, 0.8, 0.9)


def section(rng, n, noise=0.25):
    """Features that hold the position blurred, by twice as much on one half of the tissue, and that error."""
    place = rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(n, 2))
    error = noise * np.where(place[:, 0] > 0, 2.0, 1.0)
    blurred = place + error[:, None] * rng.normal(size=(n, 2))
    far = np.c_[4 * blurred, 0.1 * rng.normal(size=(n, 4))].astype(np.float32)
    return Features(np.c_[far, np.ones(n)].astype(np.float32), far), (300 * place).astype(np.float32), error


def left_out(rng, sizes, noises):
    made = [section(rng, n, noise) for n, noise in zip(sizes, noises, strict=True)]
    features, coords, errors = (list(part) for part in zip(*made, strict=True))
    names = [f"s{i}" for i in range(len(sizes))]
    return LeftOut(features, coords, names, 0, global_map(features[0].global_features).numpy()), errors


def shares(regions, rng, noise=0.25):
    """Coverage on a new section that is laid out by its global map."""
    features, coords, errors = section(rng, 400, noise)
    layout = global_map(features.global_features).numpy()
    radii = regions.radii("layout", LEVELS, regions.scale("layout", errors, 400))
    where = turned_onto(layout.astype(float), coords.astype(float))
    return in_regions(where, regions.like_places(layout, features.embedding), radii).mean(axis=0)


def test_new_sections_are_covered():
    rng = np.random.default_rng(0)
    regions = fit_regions(*left_out(rng, [300, 300, 300], [0.25] * 3), RegionRecipe())
    found = np.mean([shares(regions, rng) for _ in range(12)], axis=0)
    np.testing.assert_allclose(found, LEVELS, atol=0.04)
    assert regions.layout.units == ("s0", "s1", "s2")


def test_a_finished_layout_with_half_the_error_halves_the_regions_of_all():
    rng = np.random.default_rng(1)
    known, errors = left_out(rng, [400, 400], [0.3, 0.3])
    truth = turned_onto(known.finished.astype(float), known.coords[0].astype(float))
    finished = (0.5 * known.finished + 0.5 * truth).astype(np.float32)
    as_mapped = fit_regions(known, errors, RegionRecipe(n_places=1))
    better = fit_regions(replace(known, finished=finished), errors, RegionRecipe(n_places=1))
    ratio = better.layout.scores / as_mapped.layout.scores
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    assert ratio[0, 0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_regions_shrink_with_the_errors(power):
    known, errors = left_out(np.random.default_rng(3), [300, 300], [0.2, 0.4])
    recipe, better = RegionRecipe(power=power), 0.7
    before, after = fit_regions(known, errors, recipe), fit_regions(known, errors, recipe, better)
    scales = (one.scale("layout", error, 300) for one, error in ((before, errors[0]), (after, better * errors[0])))
    one, other = (
        found.radii("layout", (0.5, 0.8), scale) for found, scale in zip((before, after), scales, strict=True)
    )
    np.testing.assert_allclose(other, better * one, rtol=1e-5)


def test_a_large_slide_counts_no_more_than_a_small_one():
    rng = np.random.default_rng(2)
    known, errors = left_out(rng, [60, 900], [0.15, 0.45])
    regions = fit_regions(known, errors, RegionRecipe(n_places=1))
    q, scores = regions.layout.threshold(0.8), []
    for one, coords, error in zip(known.features, known.coords, errors, strict=True):
        layout = global_map(one.global_features).numpy()
        scores.append(place_scores(coords.astype(float), layout, layout[:, None], np.sqrt(error)))
    assert np.mean([(one <= q).mean() for one in scores]) == pytest.approx(0.8, abs=0.02)
    pooled = np.quantile(np.concatenate(scores), 0.8)
    assert q < 0.97 * pooled


def test_frames_of_slides_do_not_matter():
    known, errors = left_out(np.random.default_rng(3), [200, 200], [0.2, 0.3])
    turned = replace(known, coords=[0.01 * x[:, ::-1] + 5 for x in known.coords])
    found, other = (fit_regions(one, errors, RegionRecipe()).layout.scores for one in (known, turned))
    np.testing.assert_allclose(other, found, rtol=1e-3, atol=1e-5)


def test_samples_are_calibrated_on_the_unit_that_the_flow_has_not_seen(generated):
    flow = generated.model.flow
    rng = np.random.default_rng(4)
    known, errors = left_out(rng, [60, 60], [0.2, 0.2])
    wide = [
        Features(rng.normal(size=(60, flow.net.config.d_input)).astype(np.float32), one.global_features)
        for one in known.features
    ]
    known, recipe = replace(known, features=wide), RegionRecipe(n_places=4, n_steps=2)
    regions = with_flow(fit_regions(known, errors, recipe), known, flow, recipe, Run(3))
    assert regions.flow.units == ("s0",)
    places = regions.drawn_places(known.finished, wide[0].embedding, flow, Run(3))
    expected = place_scores(known.coords[0].astype(float), known.finished, places, np.ones(60))
    assert (expected <= regions.flow.threshold(0.8)).mean() == pytest.approx(0.8, abs=0.02)
    assert regions.layout.units == ("s0", "s1")
