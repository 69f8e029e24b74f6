"""One integer, or one generator, for any kind of seed."""

from __future__ import annotations

import operator

import numpy as np

Seed = int | np.random.Generator | None


def as_seed(random_state: Seed) -> int:
    """Turn a seed, a generator (which moves on by one draw) or None (a fresh one) into an integer to write down.

    Libraries take 32 bits: seeds of up to 64 are folded to as many.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, negative, or of more than 64 bits.
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**31))
    seed = _checked(random_state)
    return seed if seed.bit_length() <= 32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


def as_rng(random_state: Seed) -> np.random.Generator:
    """The generator of a seed; one that is given is returned as it is. Errors are those of :func:`as_seed`."""
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    return np.random.default_rng(_checked(random_state))


def _checked(random_state: int) -> int:
    try:
        seed = operator.index(random_state)
    except TypeError:
        kind = type(random_state).__name__
        msg = f"random_state must be an integer, a numpy Generator or None, found {kind}: give an integer."
        raise TypeError(msg) from None
    if seed < 0:
        msg = f"random_state must not be negative, found {seed if seed > -(2**64) else 'less than -2**64'}."
        raise ValueError(msg)
    if seed.bit_length() > 64:
        msg = "random_state must be less than 2**64, found a larger integer: give a smaller one."
        raise ValueError(msg)
    return seed
