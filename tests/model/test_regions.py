from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import ipar
from ipar._run import Run
from ipar.graph.nearest import nearest
from ipar.metrics import in_regions
from ipar.metrics._alignment import turned_onto
from ipar.model import IPALite
from ipar.model.regions import Calibration, Regions, checked_levels, place_scores

LEVELS = (0.5, 0.8, 0.9)


def blank(**changes):
    return replace(Regions(n_places=6, power=0.5, n_steps=2), **changes)


def slide(rng, n):
    """A layout, its truth, which is off by much on some slides and by little on others, places and expected errors."""
    layout = rng.normal(size=(n, 2))
    error = rng.gamma(4.0, 0.05, size=n)
    blur = 0.5 * rng.lognormal(sigma=0.5)
    truth = layout + blur * np.sqrt(error)[:, None] * rng.normal(size=(n, 2))
    return layout, truth, layout[:, None] + 0.05 * rng.normal(size=(n, 6, 2)), error


def score(rng, n):
    layout, truth, places, error = slide(rng, n)
    return place_scores(truth, layout, places, np.sqrt(error))


@pytest.mark.parametrize("n_units", [2, 3, 8])
def test_exchangeable_slides_are_covered(n_units):
    rng = np.random.default_rng(n_units)
    shares, below = [], []
    for _ in range(150):
        sizes = rng.integers(40, 200, n_units)
        calibration = Calibration.of([score(rng, n) for n in sizes], [str(i) for i in range(n_units)], 200)
        new = score(rng, 150)
        shares.append([(new <= calibration.threshold(level)).mean() for level in LEVELS])
        below.append([calibration.floor(level) for level in LEVELS])
    found = np.mean(shares, axis=0)
    # fewer slides, fewer of the hard ones among them: somewhat below the level, never below what is guaranteed
    np.testing.assert_allclose(found, LEVELS, atol=0.06 if n_units == 2 else 0.045)
    assert (found > below[0]).all()


def test_the_threshold_weighs_slides_alike():
    rng = np.random.default_rng(0)
    scores = [rng.gamma(2.0, 1.0, 1000), 3 * rng.gamma(2.0, 1.0, 50)]
    calibration = Calibration.of(scores, ["a", "b"], 1000)
    for level in LEVELS:
        q = calibration.threshold(level)
        assert np.mean([(one <= q).mean() for one in scores]) == pytest.approx(level, abs=0.012)
    assert calibration.floor(0.9) == pytest.approx(0.6)


def test_scores_are_distances_over_scales_and_regions_hold_what_scores_less():
    rng = np.random.default_rng(1)
    layout, truth, places, error = slide(rng, 80)
    regions = blank(layout=Calibration.of([score(rng, 80) for _ in range(3)], "abc", 50))
    scale = regions.scale("layout", error, 80)
    np.testing.assert_allclose(scale, np.sqrt(error))
    scores = place_scores(10 * truth + 3, layout, places, scale)
    where = turned_onto(layout, truth)
    expected = [min(np.hypot(*(where[i] - x)) for x in places[i]) / scale[i] for i in range(80)]
    np.testing.assert_allclose(scores, expected)
    radii = regions.radii("layout", LEVELS, scale)
    assert radii.dtype == np.float32
    assert (np.diff(radii, axis=1) >= 0).all()
    q = np.array([regions.layout.threshold(level) for level in LEVELS])
    assert (in_regions(where, places, radii) == (scores[:, None] <= q)).mean() > 0.99


def test_a_mirrored_tissue_gets_two_islands():
    """Cells whose like lie on both sides, and in the middle those whose like lie together."""
    rng = np.random.default_rng(2)
    place = rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(900, 2))
    # expression tells the distance from the midline only; cosine distances read a direction
    angle = np.c_[np.abs(place[:, 0]), place[:, 1]]
    embedding = np.c_[angle, np.ones(900)].astype(np.float32)
    regions = blank(n_places=16, layout=Calibration(np.full((3, 10), 0.2), ("a", "b", "c")))
    places = regions.like_places(place, embedding)
    radii = regions.radii("layout", [0.8], np.ones(900))
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 161), np.linspace(-2, 2, 161)), axis=-1)

    def islands(cell):
        gaps = np.linalg.norm(grid[:, :, None] - places[cell], axis=-1).min(axis=-1)
        return ndimage.label(gaps <= radii[cell, 0])[1]

    far = np.flatnonzero((np.abs(place[:, 0]) > 0.8) & (np.abs(place[:, 0]) < 1.3) & (np.abs(place[:, 1]) < 0.7))
    middle = np.flatnonzero((np.abs(place) < 0.12).all(axis=1))
    assert np.mean([islands(cell) == 2 for cell in far[:40]]) > 0.9
    assert np.mean([islands(cell) == 1 for cell in middle]) > 0.9
    mirrored = place * [-1, 1]
    held = in_regions(mirrored, places, radii)[far]
    assert held.mean() > 0.9


def test_places_are_those_of_the_cell_and_its_like_in_any_order():
    rng = np.random.default_rng(3)
    layout, embedding = rng.normal(size=(50, 2)), rng.normal(size=(50, 8)).astype(np.float32)
    regions = blank()
    found = regions.like_places(layout, embedding)
    assert found.shape == (50, 6, 2)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit.T), axis=1)[:, :6]
    assert (order[:, 0] == np.arange(50)).all()
    np.testing.assert_allclose(found, layout[order], rtol=1e-6)
    assert np.array_equal(regions.like_places(layout, embedding, nearest(embedding, 20)), found)
    mixed = rng.permutation(50)
    assert np.array_equal(regions.like_places(layout[mixed], embedding[mixed]), found[mixed])


def test_few_cells_repeat_their_own_place():
    rng = np.random.default_rng(4)
    layout = rng.normal(size=(4, 2)).astype(np.float32)
    found = blank().like_places(layout, rng.normal(size=(4, 8)).astype(np.float32))
    assert found.shape == (4, 6, 2)
    assert (found[:, 4:] == layout[:, None]).all()
    for i in range(4):
        assert {tuple(x) for x in found[i]} == {tuple(x) for x in layout}


def test_samples_of_a_flow_are_turned_onto_the_layout(generated):
    flow = generated.model.flow
    rng = np.random.default_rng(5)
    embedding = rng.normal(size=(40, flow.net.config.d_input)).astype(np.float32)
    layout = 2 * rng.normal(size=(40, 2)) + 5
    found = blank().drawn_places(layout, embedding, flow, Run(1))
    assert found.shape == (40, 6, 2)
    for one in found.transpose(1, 0, 2).astype(float):
        np.testing.assert_allclose(one.mean(0), layout.mean(0), atol=1e-4)
        assert one.var(axis=0).sum() == pytest.approx(layout.var(axis=0).sum(), rel=1e-3)
        np.testing.assert_allclose(turned_onto(layout, one), one, atol=1e-4)
    mixed = rng.permutation(40)
    np.testing.assert_allclose(
        blank().drawn_places(layout[mixed], embedding[mixed], flow, Run(1)), found[mixed], atol=1e-4
    )
    assert (blank().scale("flow", np.full(40, 9.0), 40) == 1).all()


def test_models_keep_it(model, tmp_path):
    regions = model.regions
    assert regions.layout.units == ("a", "b", "c")
    assert regions.layout.scores.shape[0] == 3
    assert regions.flow is None
    model.save(tmp_path / "m")
    back = ipar.load(tmp_path / "m").regions
    assert np.array_equal(back.layout.scores, regions.layout.scores)
    assert replace(back, layout=None) == replace(regions, layout=None)
    assert back.layout.units == regions.layout.units
    assert IPALite.from_state(*replace(model, regions=None).state()).regions is None


def test_generative_models_keep_those_of_samples(generated, tmp_path):
    generated.model.save(tmp_path / "g")
    back = ipar.load(tmp_path / "g").regions
    assert back.layout is None
    assert np.array_equal(back.flow.scores, generated.model.regions.flow.scores)
    assert len(back.flow.units) == 1


def test_a_section_alone_has_parts_as_units(alone):
    regions = alone.model.regions
    assert regions.one_section
    assert len(regions.layout.units) == 3
    assert all(name.startswith("s") or "part" in name for name in regions.layout.units)


@pytest.mark.parametrize(
    "levels", [(), (0.0, 0.5), (0.5, 1.0), (0.8, 0.5), (0.5, 0.5), (80,), (np.nan,)], ids=lambda levels: str(levels)
)
def test_levels_that_are_none(levels):
    with pytest.raises(ValueError, match=r"levels must rise, each strictly between 0 and 1"):
        checked_levels(levels)


def test_one_level_is_enough():
    assert checked_levels([0.8]) == (0.8,)


def test_a_kind_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no regions from samples='flow': fit the model.*flow=True"):
        blank(layout=Calibration(np.ones((1, 3)), ("a",))).of("flow")
    with pytest.raises(ValueError, match=r"samples must be one of \('layout', 'flow'\), found 'cells'"):
        blank().of("cells")
