"""The table of levers: differences of what was measured together, by hand and of the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ablation
from comparisons import GOAL

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "levers"


def write(folder, name, layouts):
    """Layouts that have one number in every score."""
    folder.mkdir(exist_ok=True)
    scores = {layout: dict.fromkeys(GOAL, value) for layout, value in layouts.items()}
    (folder / name).write_text(json.dumps(scores))


@pytest.fixture
def measured(tmp_path):
    # two groups of one run; another seed; a fold that has the layout without the step alone
    write(tmp_path / "a", "one-0.json", {"plain": 1.0})
    write(tmp_path / "a", "two-0.json", {"5 teach: step": 1.5})
    write(tmp_path / "a", "one-1.json", {"plain": 2.0, "step": 2.1})
    write(tmp_path / "b", "one-0.json", {"2 teach: plain": 7.0})
    (tmp_path / "a" / "doubts-0.json").write_text(json.dumps({"plain": [1, 2]}))
    return tmp_path


@pytest.mark.parametrize(("of", "expected"), [(("",), [0.5, 0.1]), (("5 teach",), []), (("st", "pl"), [0.1])])
def test_a_step_is_compared_within_a_run(measured, of, expected):
    found = ablation.gaps(ablation.Lever("", "step", "plain", "", of), list(ablation._runs(measured)))
    assert sorted((one[GOAL[0]] for one in found), reverse=True) == pytest.approx(expected)


def test_better_is_more_of_some_scores_and_less_of_others(measured, monkeypatch):
    monkeypatch.setattr(ablation, "LEVERS", (ablation.Lever("a step", "step", "plain", "default"),))
    row = ablation.ablation(measured).splitlines()[-1].split(" | ")
    assert row[0] == "| a step"
    assert row[1:6] == ["**+0.300 ± 0.283**"] * 3 + ["+0.300 ± 0.283"] * 2
    assert row[6:] == ["2", "default |"]


def test_without_results_there_is_no_section(tmp_path):
    assert ablation.ablation(tmp_path) == ""


@pytest.mark.parametrize("lever", ablation.LEVERS, ids=lambda lever: lever.title)
def test_every_step_is_measured(lever):
    runs = list(ablation._runs(RESULTS))
    assert ablation.gaps(lever, runs)
    both = [
        [name for name in layouts if name.endswith(wanted) and name.startswith(lever.of)]
        for layouts in runs
        for wanted in (lever.after, lever.before)
    ]
    assert all(len(names) <= 1 for names in both), "a name stands for two layouts"
