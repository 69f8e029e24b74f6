"""The similarity that carries a layout onto matched places, and whether another would do as well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes

from ipar.geometry.frames import FrameSearch, Similarity, weighted_similarity

quick = settings(max_examples=15, deadline=None, derandomize=True)
seeds, angles, scales = st.integers(0, 2**32 - 1), st.floats(-np.pi, np.pi), st.floats(1e-3, 1e4)


def orthogonal(angle, mirrored):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return turn * ([-1.0, 1.0] if mirrored else [1.0, 1.0])


def layout_of(rng, n=200):
    """A layout that is longer than wide, around zero."""
    return rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(n, 2))


def ones(columns):
    """One match for every cell."""
    n = len(columns)
    return sparse.csr_matrix((np.ones(n, dtype=np.float32), (np.arange(n), columns)), shape=(n, n))


@quick
@given(seeds, angles, scales, st.booleans())
def test_a_planted_similarity_is_found_exactly(seed, angle, scale, mirrored):
    rng = np.random.default_rng(seed)
    layout = layout_of(rng)
    planted = Similarity(orthogonal(angle, mirrored), scale, np.zeros(2), scale * rng.normal(size=2))
    order = rng.permutation(len(layout))
    frame = FrameSearch().find(layout, planted.apply(layout)[order], ones(np.argsort(order)))
    np.testing.assert_allclose(frame.similarity.rotation, planted.rotation, atol=1e-6)
    assert frame.similarity.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(frame.similarity.apply(layout), planted.apply(layout), atol=1e-5 * scale)
    assert frame.similarity.mirrored == mirrored
    assert frame.certainty > 0.999


@quick
@given(seeds, angles, scales, st.booleans())
def test_noise_and_false_matches_hardly_move_it(seed, angle, scale, mirrored):
    rng = np.random.default_rng(seed)
    layout = layout_of(rng)
    planted = Similarity(orthogonal(angle, mirrored), scale, np.zeros(2), np.array([3.0, -1.0]) * scale)
    places = planted.apply(layout + 0.1 * rng.normal(size=layout.shape))
    columns = np.arange(len(layout))
    false = rng.permutation(len(layout))[:60]
    columns[false] = rng.integers(0, len(layout), len(false))
    frame = FrameSearch().find(layout, places, ones(columns))
    gap = np.linalg.norm(frame.similarity.apply(layout) - planted.apply(layout), axis=1)
    least_squares = weighted_similarity(layout, places[columns], np.ones(len(layout)))
    worse = np.linalg.norm(least_squares.apply(layout) - planted.apply(layout), axis=1)
    assert np.sqrt(np.square(gap).mean()) < 0.15 * scale
    assert np.square(gap).sum() < np.square(worse).sum()
    assert frame.similarity.mirrored == mirrored
    assert 0.95 < frame.certainty <= 1


@quick
@given(seeds, angles, st.floats(1e-2, 1e4), st.booleans())
def test_places_in_another_frame_give_the_same_answer_in_that_frame(seed, angle, scale, mirrored):
    rng = np.random.default_rng(seed)
    layout = layout_of(rng)
    places = layout + 0.2 * rng.normal(size=layout.shape)
    weights = sparse.csr_matrix(rng.random((200, 200)) * (rng.random((200, 200)) < 0.02) + np.eye(200))
    moved = Similarity(orthogonal(angle, mirrored), scale, np.zeros(2), scale * np.array([20.0, -7.0]))
    here, there = (FrameSearch().find(layout, x, weights) for x in (places, moved.apply(places)))
    np.testing.assert_allclose(
        there.similarity.apply(layout), moved.apply(here.similarity.apply(layout)), atol=1e-3 * scale
    )
    assert there.certainty == pytest.approx(here.certainty, abs=1e-3)


def test_a_tissue_that_looks_mirrored_is_rarely_decided():
    certain = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        layout = layout_of(rng)
        seen = layout * np.c_[rng.choice([-1, 1], len(layout)), np.ones(len(layout))]
        certain.append(FrameSearch().find(layout, seen, ones(np.arange(len(layout)))).certainty)
    assert all(0 <= sure <= 1 for sure in certain)
    assert np.mean(np.array(certain) >= 0.95) <= 0.25
    assert np.median(certain) < 0.9


def test_matches_on_both_sides_alike_leave_it_at_one_half():
    layout = layout_of(np.random.default_rng(0))
    places = np.r_[layout, layout * [-1, 1]]
    both = sparse.csr_matrix(np.c_[np.eye(200), np.eye(200)] / 2)
    assert FrameSearch().find(layout, places, both).certainty == pytest.approx(0.5, abs=0.1)


def test_one_half_that_knows_its_side_decides():
    rng = np.random.default_rng(0)
    layout = layout_of(rng)
    sides = np.where(layout[:, 1] > 0, 1, rng.choice([-1, 1], len(layout)))
    frame = FrameSearch().find(layout, layout * np.c_[sides, np.ones(len(layout))], ones(np.arange(200)))
    assert frame.certainty > 0.95
    assert not frame.similarity.mirrored


@pytest.mark.parametrize("n", [1, 2, 4, 12])
def test_a_few_cells_have_a_frame_and_a_certainty(n):
    rng = np.random.default_rng(0)
    layout, places = layout_of(rng, n), layout_of(rng, 50)
    weights = sparse.csr_matrix(rng.random((n, 50)))
    frame = FrameSearch().find(layout, places, weights)
    assert np.isfinite(frame.similarity.apply(layout)).all()
    assert 0 <= frame.certainty <= 1


@quick
@given(seeds, st.integers(4, 40))
def test_equal_weights_give_what_scipy_gives(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, 2)) * [[[1.0, 3.0]], [[5.0, 2.0]]] + rng.normal(size=(2, 1, 2))
    found = weighted_similarity(x, y, np.full(n, 0.7))
    left = np.square(y - found.apply(x)).sum() / np.square(y - y.mean(0)).sum()
    assert left == pytest.approx(procrustes(y, x)[2], abs=1e-9)
    rotation, _ = orthogonal_procrustes(x - x.mean(0), y - y.mean(0))
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-8)


@quick
@given(seeds)
def test_a_weight_is_a_number_of_copies(seed):
    rng = np.random.default_rng(seed)
    x, y, copies = rng.normal(size=(12, 2)), rng.normal(size=(12, 2)), rng.integers(1, 5, 12)
    found = weighted_similarity(x, y, copies)
    again = weighted_similarity(np.repeat(x, copies, axis=0), np.repeat(y, copies, axis=0), np.ones(copies.sum()))
    np.testing.assert_allclose(found.apply(x), again.apply(x), atol=1e-9)


@quick
@given(seeds, st.booleans())
def test_with_and_without_reflection_no_angle_does_better(seed, mirrored):
    rng = np.random.default_rng(seed)
    x, y, weights = rng.normal(size=(15, 2)), rng.normal(size=(15, 2)), rng.uniform(0.1, 1, 15)
    share = weights / weights.sum()
    source, target = x - share @ x, y - share @ y
    found = weighted_similarity(x, y, weights, mirrored=mirrored)
    assert found.mirrored == mirrored
    tried = []
    for angle in np.linspace(0, 2 * np.pi, 721):
        carried = source @ orthogonal(angle, mirrored)
        scale = max(share @ (carried * target).sum(1) / (share @ np.square(carried).sum(1)), 0)
        tried.append(share @ np.square(target - scale * carried).sum(1))
    own = share @ np.square(y - found.apply(x)).sum(1)
    assert own <= min(tried) + 1e-9
    assert own == pytest.approx(min(tried), rel=1e-3)
