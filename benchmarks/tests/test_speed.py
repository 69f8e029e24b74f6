"""The page of times: rows beside their limits, measured in a process of their own."""

from __future__ import annotations

import argparse
import json

import pytest

import ipar
from benchmarks import speed


def test_a_row_stands_beside_its_limits() -> None:
    results = {"import": {"seconds": 0.021, "peak_gib": 0.04}, "fit_many": {"seconds": 1234.5, "peak_gib": 2.26}}
    head, _, first, second = speed.table(results).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, first, second)]
    assert [len(row) for row in cells] == [5, 5, 5]
    assert cells[1][1:] == ["0.02", "0.5", "0.0", ""]
    assert cells[2][1:] == ["1234", "", "2.3", ""]


def test_the_page_tells_its_command_and_cores() -> None:
    text = speed.page({"fit": {"seconds": 1.0, "peak_gib": 1.0, "cpus": 2}}, "python some.py")
    assert "python some.py" in text
    assert "on 2 CPU cores" in text


def test_a_measurement_runs_in_a_fresh_process() -> None:
    found = speed.measure("import", argparse.Namespace(data="nowhere", cache="nowhere"))
    assert found["loaded"] == []  # neither PyTorch nor pyplot, though this process may well have both
    assert 0 < found["seconds"] < 30
    assert found["cpus"] >= 1


def test_a_failure_says_what_failed() -> None:
    with pytest.raises(RuntimeError, match="fit failed"):
        speed.measure("fit", argparse.Namespace(data="nowhere", cache="nowhere"))


def test_placing_cells_asks_for_the_model_that_training_saves(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="--only fit --fresh"):
        speed.run_predict(argparse.Namespace(data="nowhere", cache=tmp_path))


def test_training_leaves_the_model_that_places_cells(adata, fitted, tmp_path, monkeypatch, capsys) -> None:
    brain = adata.copy()
    brain.obs["slide"] = brain.obs["slide"].astype(str).str.replace("MOB", "Hippo").astype("category")
    brain.write_h5ad(tmp_path / "mouse_brain_st.h5ad")

    def fit(train, key, **_):
        assert set(train.obs[key]) == {"Hippo1", "Hippo2"}
        train.uns["ipar"] = {"history": [0, 1], "history_best": 1}
        return fitted.model

    monkeypatch.setattr(ipar.tl, "fit_ipalite", fit)
    monkeypatch.setattr(speed, "_N_PLACED", 90)
    options = argparse.Namespace(data=tmp_path, cache=tmp_path)
    for name in ("fit", "predict", "predict_no_flow"):
        speed.RUNS[name].run(options)
    found = [json.loads(line.removeprefix("RESULT ")) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["epochs"] == 2
    assert all(one["seconds"] > 0 for one in found[1:])
