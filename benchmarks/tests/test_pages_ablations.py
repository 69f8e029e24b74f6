"""The table of ablations: differences of what was measured together, by hand and of the results that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pages import ablations
from benchmarks.pages.comparisons import GOAL
from benchmarks.tasks.records import read

RESULTS = Path(__file__).parents[1] / "results"


def record(fold, group, seed, layouts):
    """Layouts that have one number in every score."""
    scores = {layout: dict.fromkeys(GOAL, value) for layout, value in layouts.items()}
    return {"fold": fold, "group": group, "seed": seed, "layouts": scores}


@pytest.fixture
def measured():
    # two groups of one run; another seed; a fold that has the layout without the step alone
    return [
        record("a", "one", 0, {"plain": 1.0}),
        record("a", "two", 0, {"5 teach: step": 1.5}),
        record("a", "one", 1, {"plain": 2.0, "step": 2.1}),
        record("b", "one", 0, {"2 teach: plain": 7.0}),
        {"fold": "a", "group": "doubts", "seed": 0, "layouts": {"plain": [1, 2]}},
        {"fold": "a", "group": "neighbors", "seed": 0, "shares": {"30, 0": 0.1}},
    ]


@pytest.mark.parametrize(("of", "expected"), [(("",), [0.5, 0.1]), (("5 teach",), []), (("st", "pl"), [0.1])])
def test_a_step_is_compared_within_a_run(measured, of, expected):
    found = ablations.gaps(ablations.Ablation("", "step", "plain", "", of), ablations.layouts_of_runs(measured))
    assert sorted((one[GOAL[0]] for one in found), reverse=True) == pytest.approx(expected)


def test_better_is_more_of_some_scores_and_less_of_others(measured, monkeypatch):
    monkeypatch.setattr(ablations, "ABLATIONS", (ablations.Ablation("a step", "step", "plain", "default"),))
    row = ablations.section(measured).splitlines()[-1].split(" | ")
    assert row[0] == "| a step"
    assert row[1:6] == ["**+0.300 ± 0.283**"] * 3 + ["+0.300 ± 0.283"] * 2
    assert row[6:] == ["2", "default |"]


def test_without_results_there_is_no_section():
    assert ablations.section([]) == ""


@pytest.mark.parametrize("step", ablations.ABLATIONS, ids=lambda step: step.title)
def test_every_step_is_measured(step):
    runs = ablations.layouts_of_runs(read("ablations", RESULTS))
    assert ablations.gaps(step, runs)
    both = [
        [name for name in layouts if name.endswith(wanted) and name.startswith(step.of)]
        for layouts in runs
        for wanted in (step.after, step.before)
    ]
    assert all(len(names) <= 1 for names in both), "a name stands for two layouts"
