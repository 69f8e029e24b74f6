from __future__ import annotations

import pytest

from benchmarks.dissociated import impute, peers, report, run, tasks, texts
from benchmarks.tasks.records import RESULTS, read
from benchmarks.tests.conftest import ROOT


def records(methods=("ipar", "nearest_spot", "any_spot"), task="hippo", seeds=(0, 1)):
    """Runs whose scores grow with the seed; chance has the best."""
    scale = {method: number + 1.0 for number, method in enumerate(methods)}
    return [
        {
            "task": task,
            "method": method,
            "seed": seed,
            "n_cells": 10,
            "seconds": 2.0,
            "scores": dict.fromkeys(texts.PARTS[task].columns, scale[method] + seed / 10),
        }
        for method in methods
        for seed in seeds
    ]


def test_every_method_and_task_has_a_name():
    assert {*run.METHODS, *(f"{peer}{texts.LIKELIEST}" for peer in peers.MAPPING)} == set(texts.LABELS)
    assert set(texts.PARTS) == {*tasks.TASKS, *impute.TASKS}
    assert all(part.main in part.columns for part in texts.PARTS.values())


def test_the_best_is_bold_and_never_chance():
    text = report.table(texts.PARTS["hippo"], report.runs_of("hippo", records()))
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    assert "**2.050 ± 0.071**" in rows[texts.LABELS["nearest_spot"]]
    assert "**1.05 ± 0.07**" in rows[texts.LABELS["ipar"]]  # less is better
    assert "**" not in rows[texts.LABELS["any_spot"]]


def test_ipar_is_ranked_and_paired_over_seeds():
    text = report.page(records(), "command")
    assert "ipar is number 2 of 2." in text
    assert "-1.000 ± 0.000" in text
    assert texts.MISSING not in text


def test_without_ipar_the_page_says_so():
    text = report.page(records(("nearest_spot", "any_spot")), "command")
    assert texts.MISSING in text
    assert "paired over seeds" not in text


def test_a_mapping_stands_there_with_its_likeliest_spots():
    found = records(("nearest_spot", "tangram"), "e1z2", (0,))
    found[1]["likeliest"] = dict.fromkeys(found[1]["scores"], 0.5)
    text = report.table(texts.PARTS["e1z2"], report.runs_of("e1z2", found))
    assert f"| {texts.LABELS['tangram_likeliest']} | **0.5** |" in text


def test_peers_with_fewer_cells_are_named():
    found = records(("nearest_spot", "tangram", "moscot"), "mop", (0,))
    found[0]["n_cells"] = 20_000
    assert "Tangram and moscot got a random 10 of the 20,000 cells" in report.page(found, "command")


def test_the_leak_is_told_with_the_figures_of_the_look_up():
    found = records(("nearest_spot", "any_spot"), "e1z2", (0,))
    for one in found:
        one["scores"]["leaked_share"] = 0.455
    assert "46% of the query cells" in report.page(found, "command")


@pytest.mark.parametrize("task", texts.PARTS)
def test_records_have_what_their_table_shows(task):
    found = [one for one in read(run.PAGE, ROOT / RESULTS) if one["task"] == task]
    assert found
    for one in found:
        missing = set(texts.PARTS[task].columns) - set(one["scores"])
        assert all(name.startswith("auroc") for name in missing), one["method"]
    assert "nan" not in report.section(task, report.runs_of(task, found))
