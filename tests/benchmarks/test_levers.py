from __future__ import annotations

import argparse

import levers
import tasks


def test_no_scored_slide_has_a_part_in_a_fold():
    scored: dict[str, set[str]] = {}
    for task in tasks.TASKS.values():
        scored.setdefault(task.file, set()).add(task.test)
    for fold in levers.FOLDS.values():
        assert not {fold.test, *fold.train} & scored[fold.file]
        assert fold.test not in fold.train


def test_rows_are_means_over_the_runs_that_have_them():
    values = dict.fromkeys(levers.SCORES, 1.0)
    results = {
        ("brain5", "steps", 0): {"network alone": values, "sharpened": {**values, "e_geo": 3.0}},
        ("brain2", "steps", 0): {"network alone": {**values, "e_geo": 2.0}},
    }
    options = argparse.Namespace(folds=["brain5", "brain2"], seeds=[0])
    rows = [line for line in levers.page(results, options).splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| network alone", "| sharpened"]
    assert rows[0].split(" | ")[-2:] == ["1.500", "2 |"]
    assert rows[1].split(" | ")[-2:] == ["3.000", "1 |"]
