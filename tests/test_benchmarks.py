"""The benchmark runner on simulated slides; tests of the benchmark scripts stand beside them."""

from __future__ import annotations

import sys
from pathlib import Path

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


def test_results_are_readable_and_identified():
    from records import KEYS, read

    assert {path.stem for path in (FOLDER / "results").glob("*.jsonl")} == set(KEYS)
    for page, names in KEYS.items():
        found = [tuple(record[name] for name in names) for record in read(page, FOLDER / "results")]
        assert found, page
        assert found == sorted(set(found)), page
