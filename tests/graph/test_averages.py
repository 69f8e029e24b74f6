from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ipar.graph.averages import averaged_features, neighbor_average

SIZES = {"a": 60, "b": 45, "c": 8}


@pytest.fixture
def slides():
    return pd.Categorical(np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values()))))


@pytest.fixture
def components(slides):
    return np.random.default_rng(1).normal(size=(len(slides), 6)).astype(np.float32)


def by_hand(x, k):
    """The averaging matrix of one slide, from all pairs."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.zeros_like(similarity)
    for i, row in enumerate(similarity):
        near[i, np.argsort(-row)[:k]] = 1
    weights = near / 2 + near.T / 2 + np.eye(len(x))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("n_neighbors", [1, 4])
def test_average_by_hand(components, slides, n_neighbors):
    found = neighbor_average(components, slides, n_neighbors).toarray()
    for name, size in SIZES.items():
        own = np.flatnonzero(slides == name)
        k = max(1, min(n_neighbors, size // 10))  # a small slide averages over a tenth of its cells
        np.testing.assert_allclose(found[np.ix_(own, own)], by_hand(components[own].astype(float), k), atol=1e-6)


def test_rows_sum_to_one_and_stay_on_their_slide(components, slides):
    found = neighbor_average(components, slides, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    rows, columns = found.nonzero()
    assert (np.asarray(slides)[rows] == np.asarray(slides)[columns]).all()


def test_cells_without_expression_or_with_the_same_break_nothing(slides):
    zero = np.zeros((len(slides), 4), dtype=np.float32)
    average = neighbor_average(zero, slides, 5)
    np.testing.assert_allclose(average.sum(axis=1), 1, atol=1e-6)
    assert np.isfinite(averaged_features(zero, average, np.asarray(slides.codes), 2)).all()


def test_one_cell_and_an_unused_slide_are_fine():
    slides = pd.Categorical(["a"], categories=["a", "never"])
    assert neighbor_average(np.ones((1, 3), dtype=np.float32), slides, 5).toarray() == [[1.0]]


def test_blocks_have_the_size_of_the_components_on_every_slide(components, slides):
    components = components * np.where(np.asarray(slides) == "b", 3.0, 1.0)[:, None].astype(np.float32)
    average = neighbor_average(components, slides, 5)
    found = averaged_features(components, average, np.asarray(slides.codes), 2)
    assert found.shape == (len(slides), 18)
    np.testing.assert_array_equal(found[:, :6], components)
    for name in SIZES:
        sizes = [np.square(block[slides == name].astype(float)).mean() for block in np.split(found, 3, axis=1)]
        assert sizes == pytest.approx([sizes[0]] * 3, rel=1e-4)
    twice = average @ (average @ components)
    for name in SIZES:
        own = np.asarray(slides == name)
        assert np.corrcoef(found[own, 12:].ravel(), twice[own].ravel())[0, 1] == pytest.approx(1, abs=1e-5)


def test_no_hops_leave_the_components_alone(components, slides):
    average = neighbor_average(components, slides, 5)
    np.testing.assert_array_equal(averaged_features(components, average, np.asarray(slides.codes), 0), components)


def test_averaging_takes_noise_off_what_cells_share():
    # three kinds of cells, much noise: averages lie closer to the kinds' means than cells do
    rng = np.random.default_rng(2)
    kinds = rng.integers(3, size=600)
    means = rng.normal(size=(3, 20)) * 1.5
    x = (means[kinds] + rng.normal(size=(600, 20))).astype(np.float32)
    average = neighbor_average(x, pd.Categorical(["a"] * 600), 20)
    assert np.square(average @ x - means[kinds]).mean() < 0.25 * np.square(x - means[kinds]).mean()
