"""The page of times, and measurements in a process of their own."""

from __future__ import annotations

import argparse
import json
from functools import partial

import pytest

import ipar
from benchmarks import speed
from benchmarks.pages import speed as pages


def record(name, version="now", **values):
    return {"name": name, "version": version, "cpus": 2, "seconds": 1.0, "cpu_seconds": 2.0, "peak_gib": 0.5} | values


def cells_of(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_before_stands_beside_now_and_both_beside_their_limits() -> None:
    titles = {"import": ("import", 0.5, None), "fit": ("fit", None, 3.0), "demo": ("demo", 60.0, None)}
    found = [
        record("import", seconds=0.021, cpu_seconds=0.03, peak_gib=0.04),
        record("fit", "abc", cpu_seconds=480.0),
        record("fit", seconds=70.4, cpu_seconds=120.0, peak_gib=1.26),
    ]
    head, _, first, second = pages.table_of_runs(titles, found).splitlines()
    assert [len(cells_of(row)) for row in (head, first, second)] == [8, 8, 8]
    assert cells_of(first)[1:] == ["", "0.03", "", "0.02", "0.5", "0.0", ""]
    assert cells_of(second)[1:] == ["480", "120", "4.0", "70", "", "1.3", "3"]


def test_qualities_are_compared_on_the_tasks_that_all_of_them_have() -> None:
    def run(method, task, spearman, seed=0):
        scores = {"luna_spearman": spearman, "knn_hit_20_ratio": 2.0, "e_geo": 1.0}
        return {"method": method, "task": task, "seed": seed, "seconds": 10.0, "scores": scores}

    found = [run("ipar_fast", "a", 0.5), run("ipar_fast", "b", 0.7), run("ipar", "a", 0.6), run("ipar", "b", 0.8)]
    found += [run("ipar", "c", 0.0), run("ipar", "a", 0.0, seed=1), run("ridge", "a", 0.0)]
    lines = pages.table_of_qualities(found).splitlines()
    assert "tasks (a, b)" in lines[0]
    assert cells_of(lines[-2]) == ["`fast`", "0.600", "2.000", "1.000", "–"]  # evenness was not kept
    assert cells_of(lines[-1])[:2] == ["`best`, as of the version before", "0.700"]
    assert pages.table_of_qualities(found[:2]) == "Not measured yet."


def test_the_page_tells_its_command_its_cores_and_what_was_before() -> None:
    runs = [record("fit", stages={"folds": 12.0, "flow": 0.0}), record("fit", "abc")]
    text = pages.page({"fit": ("fit", 1.0, 1.0)}, {"speed": runs, "benchmarks": [], "peer_speed": []}, "python some.py")
    assert "python some.py" in text
    assert "on 2 CPU cores" in text
    assert "commit `abc`" in text
    assert "| folds |\n|---|\n| 12 |" in text


def test_a_measurement_runs_in_a_fresh_process() -> None:
    found = speed.measure("import", argparse.Namespace(data="nowhere", cache="nowhere"))
    assert found["loaded"] == []  # neither PyTorch nor pyplot, though this process may well have both
    assert 0 < found["seconds"] < 30
    assert 0 < found["cpu_seconds"] < 30
    assert found["cpus"] >= 1


def test_another_source_is_measured_by_the_same_script(tmp_path) -> None:
    package = tmp_path / "src" / "ipar"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import time\ntime.sleep(0.5)\n")
    found = speed.measure("import", argparse.Namespace(data="nowhere", cache="nowhere"), tmp_path, "other")
    assert found["seconds"] >= 0.5


def test_a_failure_says_what_failed() -> None:
    with pytest.raises(RuntimeError, match="fit failed"):
        speed.measure("fit", argparse.Namespace(data="nowhere", cache="nowhere"))


def test_placing_cells_asks_for_the_model_that_training_saves(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="--only fit --fresh"):
        speed.run_predict(argparse.Namespace(data="nowhere", cache=tmp_path, model="none"))


@pytest.mark.filterwarnings("ignore:Expression looks like")  # half of the genes are gone
def test_training_leaves_the_model_that_places_cells(adata, fitted, tmp_path, monkeypatch, capsys) -> None:
    brain = adata.copy()
    brain.obs["slide"] = brain.obs["slide"].astype(str).str.replace("MOB", "Hippo").astype("category")
    brain.write_h5ad(tmp_path / "mouse_brain_st.h5ad")

    def fit(train, key, **_):
        assert set(train.obs[key]) == {"Hippo1", "Hippo2"}
        train.uns["ipar"] = {"fit": {"seconds": {"folds": 1.0}}}
        return fitted.model

    monkeypatch.setattr(ipar.tl, "fit_ipalite", fit)
    options = argparse.Namespace(data=tmp_path, cache=tmp_path, model="model")
    speed.run_fit(options)
    speed.run_predict(options, n_cells=90)
    partial(speed.run_predict, n_cells=90, n_genes=20)(options)
    found = [json.loads(line.removeprefix("RESULT ")) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["stages"] == {"folds": 1.0}
    assert all(one["seconds"] > 0 for one in found[1:])
    assert found[2]["genes_per_cell"] < found[1]["genes_per_cell"]
