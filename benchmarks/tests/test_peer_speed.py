"""Times of the peers: what they place, limits of a run, and the table; no peer is installed here."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import run as peers_run
from benchmarks.peers import speed
from benchmarks.tasks.records import read

PLACE = """
from exchange import serve

def place(data, seed):
    {body}

serve(place)
"""


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(data=tmp_path, environments=tmp_path, threads=1, most_seconds=60)


@pytest.fixture
def given(slides, monkeypatch):
    exchange = peers_run.exchanged(slides.train, slides.query)
    monkeypatch.setattr(speed, "prepared", lambda task, folder: (exchange, slides.truth))
    monkeypatch.setattr(speed, "environment", lambda peer, folder: Path(sys.executable))
    return exchange


@pytest.fixture
def script(given, tmp_path, monkeypatch):
    """Writes the script of a peer, which stands in for the published one."""
    (tmp_path / "exchange.py").write_text(Path(peers_run.HERE / "exchange.py").read_text())
    monkeypatch.setattr(peers_run, "HERE", tmp_path)
    return lambda body: (tmp_path / "place_moscot.py").write_text(PLACE.format(body=body))


@pytest.mark.parametrize("n_cells", [50, 500])
def test_drawn_cells_are_like_those_of_the_section_and_all_differ(given, n_cells):
    cells = speed.drawn(given.query, n_cells)
    assert cells.shape == (n_cells, given.query.shape[1])
    assert cells.dtype == given.query.dtype
    assert len(np.unique(cells, axis=0)) == n_cells
    nearest = np.abs(cells[:, None] - given.query[None]).max(axis=2)
    assert nearest.min(axis=1).max() < 0.06 * given.query.max()
    assert len(np.unique(nearest.argmin(axis=1))) == n_cells or n_cells > len(given.query)
    np.testing.assert_array_equal(cells, speed.drawn(given.query, n_cells))


def test_a_run_is_timed_and_its_cells_are_placed(script, options):
    script("assert len(data.query) == 200; sum(range(10**7)); return data.query[:, :2]")
    record = speed.measured("moscot", 200, options)
    assert set(record) == {"seconds", "cpu_seconds", "peak_gib", "threads"}
    assert 0 < record["seconds"]
    assert 0 < record["cpu_seconds"] < 60
    assert 0 < record["peak_gib"] < 0.3  # of the script, not of this process, which has loaded PyTorch


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("bytearray(13 * 2**30)", "out of 12 GiB"),
        ("import os; os.kill(os.getpid(), 9)", "out of 12 GiB"),
        ("import os; os._exit(3)", "exit status 3"),
        ("raise ValueError('no such luck')", "ValueError: no such luck"),
        ("return data.query[:, :2] * float('nan')", "coordinates that are not finite"),
    ],
)
def test_a_run_that_fails_says_why(script, options, body, reason):
    script(body)
    assert speed.measured("moscot", 100, options) == {"threads": 1, "failed": reason}


def test_a_run_of_too_much_time_is_stopped(script, options):
    script("import time; time.sleep(30)")
    options.most_seconds = 1
    record = speed.measured("moscot", 100, options)
    assert set(record) == {"threads", "failed"}
    assert re.fullmatch(r"stopped after 1 s, \d s of them CPU time", record["failed"])


def test_an_environment_that_cannot_be_made_is_a_failure(given, options, monkeypatch):
    def fails(peer, folder):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(speed, "environment", fails)
    assert speed.measured("moscot", 100, options)["failed"] == "its environment could not be made"


def test_runs_are_kept_and_go_on_after_a_failure(given, tmp_path, monkeypatch, capsys):
    asked = []

    def placed(peer, exchange, seed, python, threads):
        asked.append((peer, len(exchange.query)))
        if peer == "tangram":
            msg = "tangram, seed 0, failed:\nMemoryError\nexit status 1\n"
            raise RuntimeError(msg)
        return np.zeros((len(exchange.query), 2)), {"seconds": 1.0, "peak_gib": 0.5}

    monkeypatch.setattr(speed, "placed", placed)
    arguments = ["--peers", "tangram", "moscot", "--cells", "90", "200", "--out", str(tmp_path)]
    for _ in range(2):
        speed.main(arguments)
    assert asked == [("tangram", 90), ("moscot", 90), ("tangram", 200), ("moscot", 200)]
    assert [(one["peer"], one["n_cells"], one.get("failed")) for one in read(speed.PAGE, tmp_path)] == [
        ("moscot", 90, None),
        ("moscot", 200, None),
        ("tangram", 90, "out of 12 GiB"),
        ("tangram", 200, "out of 12 GiB"),
    ]
    assert "| Tangram | out of 12 GiB | out of 12 GiB |" in capsys.readouterr().out
    speed.main([*arguments, "--fresh"])
    assert len(asked) == 8


def test_a_table_without_records_says_so():
    assert speed.table([]) == "Not measured yet."


def test_table_has_a_row_per_peer_and_a_column_per_number_of_cells():
    records = [
        {"peer": "novosparc", "n_cells": 20_000, "failed": "said a | b"},
        {"peer": "novosparc", "n_cells": 1_000, "seconds": 9.0, "cpu_seconds": 1234.5, "peak_gib": 0.76},
        {"peer": "tangram", "n_cells": 5_000, "seconds": 9.0, "cpu_seconds": 80.2, "peak_gib": 2.0},
    ]
    assert speed.table(records).splitlines() == [
        "| peer | 1,000 cells | 5,000 cells | 20,000 cells |",
        "| --- | --- | --- | --- |",
        "| Tangram |  | 80 s (2.0 GiB) |  |",
        "| novoSpaRc | 1,234 s (0.8 GiB) |  | said a \\| b |",
    ]
