"""Attention of three kinds: the same numbers, and a row for what could not be measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import attention

ROOT = Path(__file__).resolve().parents[2]
FOUND = {"cpu_seconds": 0.05, "seconds": 0.06, "extra_gib": 0.02, "error": 1e-6}
MORE = FOUND | {"cpu_seconds": 1.0, "extra_gib": 1.0}


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


@pytest.mark.parametrize("method", attention.TITLES)
def test_every_layer_has_the_numbers_of_double_precision(method):
    if method == "geometric":
        pytest.importorskip("torch_geometric")
    x, index, weights = attention.problem(300)
    assert index.shape == (300, attention.K)
    with torch.no_grad():
        found = attention.layer_of(method, index, weights)(x)
    assert attention.error_of(found, x, index, weights) < 1e-5
    assert attention.error_of(found + 0.1, x, index, weights) > 0.05


def test_neighbours_are_the_nearest_other_cells():
    index = attention.problem(50)[1]
    assert all(sorted(row) == [j for j in range(50) if j != i] for i, row in enumerate(index.tolist()))


def test_a_layer_is_measured_in_a_fresh_process():
    found = attention.measure("kernel", 2_000, 1)
    assert found["error"] < 1e-5
    assert 0 < found["cpu_seconds"] < 5
    assert 0 <= found["extra_gib"] < 0.1


def test_what_is_not_installed_or_too_large_is_a_row(monkeypatch):
    limits = []
    monkeypatch.setattr(attention.resource, "setrlimit", lambda *limit: limits.append(limit))
    monkeypatch.setattr(attention, "layer_of", lambda *_: importlib.import_module("no_such_module"))
    assert attention.run_one("geometric", 100, torch.get_num_threads()) == {"failed": attention.MISSING}
    assert limits

    def layer(message):
        def fail(x):
            raise RuntimeError(message)

        return lambda *_: fail

    monkeypatch.setattr(attention, "layer_of", layer("can't allocate memory: you tried to allocate"))
    assert attention.run_one("geometric", 100, torch.get_num_threads()) == {"failed": attention.NO_MEMORY}
    monkeypatch.setattr(attention, "layer_of", layer("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        attention.run_one("geometric", 100, torch.get_num_threads())


def test_a_failure_says_what_failed():
    with pytest.raises(RuntimeError, match="kernel on none cells failed"):
        attention.measure("kernel", "none", 1)


def test_only_what_is_missing_is_measured(tmp_path, monkeypatch):
    asked, answers = [], {"kernel": FOUND, "lists": MORE, "geometric": {"failed": attention.MISSING}}

    def measure(method, n_cells, n_threads):
        asked.append((n_cells, n_threads, method))
        return answers[method]

    monkeypatch.setattr(attention, "measure", measure)
    attention.run_all([30, 1_000], [1], tmp_path)
    assert len(asked) == 6
    asked.clear()
    answers["geometric"] = {"failed": attention.NO_MEMORY}
    attention.run_all([30, 1_000], [1], tmp_path)
    assert asked == [(30, 1, "geometric"), (1_000, 1, "geometric")]
    attention.run_all([30, 1_000], [1], tmp_path)
    assert len(asked) == 2
    attention.run_all([30], [1], tmp_path, fresh=True)
    assert len(asked) == 5
    assert [run[0] for run in attention.stored(tmp_path)] == [30] * 3 + [1_000] * 3
    assert [run[2] for run in attention.stored(tmp_path)] == 2 * list(attention.TITLES)


def test_the_page_compares_what_was_measured():
    results = {
        (1_000, 1, "kernel"): FOUND,
        (1_000, 1, "lists"): MORE,
        (1_000, 1, "geometric"): {"failed": attention.NO_MEMORY},
        (1_000, 2, "kernel"): FOUND,
        (1_000, 2, "lists"): MORE,
    }
    head, line, first, second, third, *_ = rows(attention.table(results))
    assert len(head) == len(line) == len(first) == len(third) == 7
    assert first[3:] == ["0.050", "0.060", "20", "1e-06"]
    assert second[3:6] == ["1.0", "0.060", "1,024"]
    assert third[3:] == [attention.NO_MEMORY, "", "", ""]
    text = attention.markdown(results)
    assert text.count("times the CPU time of the kernel") == 1
    assert "ipar, PyTorch takes 20.0 times the CPU time of the kernel and 50 times its memory." in text


def test_one_measurement_is_printed_for_the_process_that_asked(monkeypatch, capsys):
    monkeypatch.setattr(attention, "run_one", lambda *run: {"run": run})
    monkeypatch.setattr(sys, "argv", ["main", "--one", "lists", "30", "2"])
    attention.main()
    assert json.loads(capsys.readouterr().out.removeprefix("RESULT ")) == {"run": ["lists", 30, 2]}


def test_the_page_is_that_of_the_records(tmp_path, monkeypatch):
    made = tmp_path / "attention.md"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main", "--report-only", "--markdown", str(made)])
    attention.main()
    assert made.read_text(encoding="utf-8") == (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
