"""Queries without information take no longer than others, and are told from them."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

import ipar
from tests.matrix.inputs import INPUTS


def seconds(cells, model):
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ipar.tl.predict_coords(cells, model, progress=False)
    return time.process_time() - start


@pytest.fixture(scope="module")
def usual(world):
    seconds(world.query.copy(), world.model)  # compiles what is compiled once
    return min(seconds(world.query.copy(), world.model) for _ in range(2))


@pytest.mark.parametrize("name", ["one profile", "two profiles", "empty X"])
@pytest.mark.parametrize("n", [5, 120])
def test_a_degenerate_query_takes_no_longer(world, usual, name, n):
    cells = INPUTS[name](world.query[:n].copy())
    assert seconds(cells, world.model) < 2 * usual + 0.5
    assert np.isfinite(cells.obsm["X_ipar"]).all()
    error = cells.obs["ipar_uncertainty"]
    assert error.isna().all() if name == "empty X" else (error > 0).all()
