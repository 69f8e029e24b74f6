"""The benchmark runner on simulated slides; tests of the benchmark scripts stand beside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    """Scripts import each other by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def test_a_task_strips_what_no_method_may_read(make_slides):
    import tasks

    task = tasks.Task("toy", "none.h5ad", "c", ("a", "b"), "simulated", counts=False)
    found = tasks.split(make_slides(), task)
    assert set(found.train.obs["slide"]) == {"a", "b"}
    assert not found.query.obsm
    assert found.truth.shape == (found.query.n_obs, 2)


def test_results_are_readable():
    paths = [path for path in (FOLDER / "results").rglob("*.json") if "cache" not in path.parts]
    assert len(paths) > 100
    for path in np.random.default_rng(0).choice(np.array(paths, dtype=object), 60, replace=False):
        assert json.loads(path.read_text())
