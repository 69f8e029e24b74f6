"""Cells on a reference slide, placed by features and layouts that are known to be right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax

from ipar.model import Placement
from ipar.model.matching import Matching
from ipar.model.reference import ReferenceSlide


def tissue(n=250, seed=0, noise=0.0):
    """A slide and cells of the same tissue; features tell the place up to the noise."""
    rng = np.random.default_rng(seed)
    lift = np.random.default_rng(1).normal(size=(2, 30))
    shift = np.random.default_rng(2).uniform(0, 2 * np.pi, 30)
    coords, truth = rng.uniform([-300, -200], [300, 200], size=(2, n, 2))

    def seen(x):
        return np.cos(x @ lift / 150 + shift) + noise * rng.normal(size=(len(x), 30))

    slide = ReferenceSlide("s", seen(coords).astype(np.float16), coords)
    return slide, seen(truth).astype(np.float32), truth


def layout_of(truth, noise=0.1):
    """The truth, mirrored, turned and scaled, with noise."""
    x = (truth - truth.mean(axis=0)) / truth.std()
    return (x @ np.array([[0.6, 0.8], [0.8, -0.6]]) + noise * np.random.default_rng(3).normal(size=x.shape)).astype(
        np.float32
    )


def error(found, truth):
    return float(np.sqrt(np.square(found - truth).sum(axis=1).mean()) / truth.std())


def test_without_a_layout_cells_go_to_the_mean_of_their_matches():
    slide, features, truth = tissue()
    found = Placement().place(features, None, slide)
    known = slide.features.astype(float)
    distances = cdist(features, known, "cosine")
    dense = found.weights.toarray()
    expected = softmax(np.where(dense > 0, -distances / 0.05, -np.inf), axis=1)
    np.testing.assert_allclose(found.coords, expected @ slide.coords, atol=0.1)
    assert found.frame is None
    assert error(found.coords, truth) < 0.5


def test_a_layout_helps_where_features_are_noisy():
    slide, features, truth = tissue(noise=0.8)
    without, with_layout = (
        error(Placement().place(features, layout, slide).coords, truth) for layout in (None, layout_of(truth))
    )
    assert with_layout < 0.8 * without


def test_the_frame_of_a_mirrored_layout():
    slide, features, truth = tissue()
    found = Placement(prior=1e9, transport=0.0).place(features, layout_of(truth, 0.0), slide)
    assert found.frame.similarity.mirrored
    assert found.frame.certainty > 0.95
    assert error(found.coords, truth) < 0.1


def test_weights_sum_to_one_and_confidence_lies_between_zero_and_one():
    slide, features, truth = tissue(noise=0.3)
    for layout in (None, layout_of(truth)):
        found = Placement().place(features, layout, slide)
        assert found.weights.shape == (250, 250)
        assert found.weights.dtype == np.float32
        np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-5)
        assert ((found.confidence > 0) & (found.confidence <= 1)).all()
        assert found.confidence.dtype == found.similarity.dtype == np.float32


def test_a_slide_far_from_the_origin_is_like_any_other():
    slide, features, truth = tissue(noise=0.3)
    away = ReferenceSlide("s", slide.features, slide.coords + 1e8)
    near, far = (Placement().place(features, layout_of(truth), one) for one in (slide, away))
    np.testing.assert_allclose(far.coords - 1e8, near.coords, atol=1e-3)
    np.testing.assert_allclose(far.confidence, near.confidence, atol=1e-4)
    np.testing.assert_allclose(far.frame.similarity.target - 1e8, near.frame.similarity.target, atol=1e-3)


def test_confidence_is_high_for_one_place_and_low_for_places_far_apart():
    slide, features, _ = tissue()
    sure = Placement(matching=Matching(n_matches=1)).place(slide.features.astype(np.float32), None, slide)
    blurred = Placement(matching=Matching(n_matches=250, width=1e6)).place(features, None, slide)
    assert (sure.confidence > 0.999).all()
    # all places alike: the squared spread is that of the tissue, a radius squared
    np.testing.assert_allclose(blurred.confidence, 1 / (1 + 1 / 0.3**2), rtol=1e-3)


def test_transport_moves_cells_the_given_share_of_the_way():
    slide, features, truth = tissue(noise=0.3)
    coords = Placement().place(features, layout_of(truth), slide).coords
    assert np.array_equal(Placement(transport=0.0).moved(coords, slide), coords)
    whole = Placement(transport=1.0).moved(coords, slide)
    assert cdist(whole, slide.coords).min(axis=1).max() < 1e-9
    part = Placement(transport=0.25).moved(coords, slide)
    place = cdist(whole, slide.coords).argmin(axis=1)
    for one in np.unique(place):  # cells of one place move together: their middle goes a quarter of the way
        own = place == one
        np.testing.assert_allclose((part - coords)[own], [(part - coords)[own][0]] * own.sum(), atol=1e-9)
        middle = 0.75 * coords[own].mean(axis=0) + 0.25 * slide.coords[one]
        np.testing.assert_allclose(part[own].mean(axis=0), middle, atol=1e-9)


def test_a_part_of_the_tissue_does_not_fill_all_of_it():
    slide, features, truth = tissue(n=400)
    half = truth[:, 0] > 0
    found = Placement().place(features[half], layout_of(truth)[half], slide)
    placed = Placement(transport=1.0).moved(found.coords, slide)
    assert np.median(placed[:, 0]) > 100
    everywhere = Placement(transport=1.0, margin=100.0).moved(found.coords, slide)
    assert np.median(everywhere[:, 0]) < 60


def test_the_shift_tells_a_part_from_the_whole():
    slide, features, truth = tissue(n=400)
    whole, corner = (
        Placement().place(features[own], None, slide).shift
        for own in (np.ones(400, dtype=bool), (truth > [150, 100]).all(axis=1))
    )
    assert whole < 0.15 < 0.4 < corner


def test_cells_far_from_all_places_are_placed_too():
    """Cells in the middle of a ring, none of whose places is near: there is nothing to move them to."""
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    coords = np.c_[np.cos(angle), np.sin(angle)]
    slide = ReferenceSlide("ring", np.ones((100, 3), dtype=np.float16), coords)
    layout = 0.01 * np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    found = Placement().place(np.ones((5, 3), dtype=np.float32), layout, slide)
    moved = Placement(transport=1.0).moved(found.coords, slide)
    assert cdist(moved, coords).min(axis=1).max() < 1e-9


@pytest.mark.parametrize("transport", [-0.1, 1.1, float("nan")])
def test_a_transport_that_is_no_share(transport):
    with pytest.raises(ValueError, match="transport must lie between 0 and 1, found"):
        Placement(transport=transport)


def test_many_cells_are_framed_by_some_of_them():
    slide, features, truth = tissue(n=400)
    few = Placement(most_witnesses=60, transport=0.0).place(features, layout_of(truth), slide)
    all_of_them = Placement(transport=0.0).place(features, layout_of(truth), slide)
    assert error(few.coords, all_of_them.coords) < 0.1
