from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ipar
from ipar._seeds import as_rng, as_seed


def test_integers_of_any_kind_are_plain():
    for value in (7, np.int64(7), np.uint8(7)):
        assert as_seed(value) == 7
        assert type(as_seed(value)) is int


def test_a_generator_gives_a_new_seed_every_time_and_the_same_row(global_random_state):
    first, again = np.random.default_rng(3), np.random.default_rng(3)
    row = [as_seed(first) for _ in range(4)]
    assert row == [as_seed(again) for _ in range(4)]
    assert len(set(row)) == 4
    assert all(type(seed) is int for seed in row)


def test_none_is_a_fresh_seed(global_random_state):
    seeds = {as_seed(None) for _ in range(4)}
    assert len(seeds) == 4
    assert min(seeds) >= 0


@pytest.mark.parametrize(
    ("value", "error", "remedy"),
    [(1.5, TypeError, "found float: give an integer"), ("1", TypeError, "found str"), (-1, ValueError, "negative")],
)
def test_other_things_are_refused(value, error, remedy):
    with pytest.raises(error, match=remedy):
        as_seed(value)


@given(st.integers(0, 2**64 - 1))
def test_seeds_of_64_bits_are_folded_and_those_of_32_are_as_they_are(seed):
    found = as_seed(seed)
    assert found == as_seed(np.uint64(seed)) < 2**32
    assert found == seed or seed >= 2**32
    assert as_rng(seed).integers(2**62) == np.random.default_rng(seed).integers(2**62)


def test_folded_seeds_differ():
    assert len({as_seed(2**63 + i) for i in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(2**64, "less than 2"), (1 << 20000, "less than 2"), (-1 << 20000, "not be negative")],
    ids=["65 bits", "long", "long and negative"],
)
@pytest.mark.parametrize("function", [as_seed, as_rng])
def test_longer_seeds_are_refused(function, value, remedy):
    with pytest.raises(ValueError, match=f"random_state must .*{remedy}"):
        function(value)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(2**32 - 1, marks=pytest.mark.thorough),
        pytest.param(2**32, marks=pytest.mark.thorough),
        pytest.param(2**63, marks=pytest.mark.thorough),
        2**64 - 1,
    ],
)
def test_every_call_takes_a_seed_of_64_bits(seed, slides, query, settings, tune):
    fitted = ipar.tl.fit_ipalite(slides, "slide", **settings.fit | {"max_epochs": 1, "random_state": seed})
    for _ in range(2):
        ipar.tl.predict_coords(query, fitted, random_state=seed, progress=False)
    kept = slides.uns["ipar"]["fit"]["random_state"]
    again = ipar.tl.predict_coords(query, fitted, random_state=kept, progress=False, copy=True)
    assert np.array_equal(again.obsm["X_ipar"], query.obsm["X_ipar"])
    ipar.metrics.evaluate(query.obsm["spatial"], query.obsm["X_ipar"], random_state=seed)
    ipar.datasets.layered_tissue(n_slides=1, n_cells=100, random_state=seed)
