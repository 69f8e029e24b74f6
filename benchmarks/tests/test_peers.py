from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.methods.labels import PEERS
from benchmarks.peers import run as peers_run
from benchmarks.tasks import tasks

FOLDER = Path(peers_run.__file__).parent


@pytest.fixture(scope="module")
def given(slides):
    return peers_run.exchanged(slides.train, slides.query)


def test_report_knows_every_peer_and_every_peer_has_its_files():
    for peer in PEERS:
        assert (FOLDER / f"place_{peer}.py").is_file()
        assert any("==" in line for line in (FOLDER / f"{peer}.txt").read_text().splitlines())


def test_exchange_file_holds_no_coordinate_of_the_query(given, slides, tmp_path):
    given.write(tmp_path / "given.npz")
    with np.load(tmp_path / "given.npz") as stored:
        found = {name: stored[name] for name in stored.files}
    assert set(found) == {"x", "coords", "slides", "query"}
    assert "MOB4" not in found["slides"]
    assert len(found["x"]) == len(found["coords"]) == len(found["slides"]) == slides.train.n_obs
    np.testing.assert_array_equal(found["query"], np.asarray(slides.query.X))


def test_exchange_file_does_not_depend_on_where_query_cells_lie(given, adata):
    moved = adata.copy()
    rows = (moved.obs["slide"] == "MOB4").to_numpy()
    for where in (moved.obsm["spatial"], moved.obsm["other"], moved.uns["positions"]):
        where[rows] = where[rows][::-1]
    slides = tasks.split(moved, tasks.TASKS["ob"])
    again = peers_run.exchanged(slides.train, slides.query)
    for name in ("x", "coords", "slides", "query"):
        np.testing.assert_array_equal(getattr(again, name), getattr(given, name))


def test_training_slides_are_gauge_fixed(given):
    for name in np.unique(given.slides):
        coords = given.coords[given.slides == name]
        np.testing.assert_allclose(coords.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(np.square(coords).sum(axis=1).mean(), 1, rtol=1e-4)


def test_reference_is_the_slide_most_like_the_query(given):
    like = peers_run.Exchange(given.x, given.coords, given.slides, given.x[given.slides == "MOB2"])
    x, coords = like.reference(0)
    np.testing.assert_array_equal(x, given.x[given.slides == "MOB2"])
    np.testing.assert_array_equal(coords, given.coords[given.slides == "MOB2"])


def test_a_peer_runs_without_ipar_and_is_scored(folder_of_data, tmp_path, monkeypatch):
    script = """
import importlib.util, os, sys
from exchange import barycentres, serve

def place(data, seed):
    assert importlib.util.find_spec("tasks") is None and "PYTHONPATH" not in os.environ
    x, coords = data.reference(seed)
    return barycentres(1 / (1e-9 + ((data.query[:, None] - x[None]) ** 2).sum(2)) ** 4, coords)

serve(place)
"""
    (tmp_path / "place_moscot.py").write_text(script)
    (tmp_path / "exchange.py").write_text((FOLDER / "exchange.py").read_text())
    monkeypatch.setattr(peers_run, "HERE", tmp_path)
    monkeypatch.setattr(peers_run, "environment", lambda peer, folder: Path(sys.executable))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    options = argparse.Namespace(data=folder_of_data, environments=tmp_path, threads=1)
    result = peers_run.run_one("ob", "moscot", 0, options)
    assert result["scores"]["luna_spearman"] > 0.5
    assert result["seconds"] > 0
    assert result["peak_gib"] > 0
    json.dumps(result)


def test_a_peer_that_fails_says_why(given, tmp_path, monkeypatch):
    (tmp_path / "place_stem.py").write_text("raise ValueError('no such luck')")
    monkeypatch.setattr(peers_run, "HERE", tmp_path)
    with pytest.raises(RuntimeError, match="no such luck"):
        peers_run.placed("stem", given, 0, Path(sys.executable), 1)


def test_an_environment_is_made_again_only_when_its_requirements_change(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(peers_run, "HERE", tmp_path)
    monkeypatch.setattr(
        peers_run.venv, "create", lambda home, **kwargs: (made.append(home), os.makedirs(home, exist_ok=True))
    )
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: None)
    (tmp_path / "stem.txt").write_text("scSTEM==0.0.2\n")
    for _ in range(2):
        assert peers_run.environment("stem", tmp_path / "all") == tmp_path / "all" / "stem" / "bin" / "python"
    assert len(made) == 1
    (tmp_path / "stem.txt").write_text("scSTEM==0.0.3\n")
    peers_run.environment("stem", tmp_path / "all")
    assert len(made) == 2


@pytest.fixture(scope="module")
def folder_of_data(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    adata.write_h5ad(path / "mouse_ob_st.h5ad")
    return path
