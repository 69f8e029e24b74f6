"""One integer for any kind of seed."""

from __future__ import annotations

import operator

import numpy as np


def as_seed(random_state: int | np.random.Generator | None) -> int:
    """Turn a seed, a generator (which moves on by one draw) or None (a fresh one) into an integer to write down.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or negative.
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**31))
    try:
        seed = operator.index(random_state)
    except TypeError:
        kind = type(random_state).__name__
        msg = f"random_state must be an integer, a numpy Generator or None, found {kind}: give an integer."
        raise TypeError(msg) from None
    if seed < 0:
        msg = f"random_state must not be negative, found {seed}."
        raise ValueError(msg)
    return seed
