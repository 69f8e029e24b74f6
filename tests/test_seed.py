from __future__ import annotations

import numpy as np
import pytest

from ipar._run import as_seed


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
