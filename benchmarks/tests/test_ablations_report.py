from __future__ import annotations

import argparse

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

import ipar
import lever_doubts
import levers
import own_neighbors
import tasks


def test_no_scored_slide_has_a_part_in_a_fold():
    scored: dict[str, set[str]] = {}
    for task in tasks.TASKS.values():
        scored.setdefault(task.file, set()).add(task.test)
    for fold in levers.FOLDS.values():
        assert not {fold.test, *fold.train} & scored[fold.file]
        assert fold.test not in fold.train
    for slide in own_neighbors.SLIDES.values():
        assert slide.test not in scored[slide.file]


def test_rows_are_means_over_the_runs_that_have_them():
    values = dict.fromkeys(levers.SCORES, 1.0)
    results = {
        ("brain5", "steps", 0): {"network alone": values, "sharpened": {**values, "e_geo": 3.0}},
        ("brain2", "steps", 0): {"network alone": {**values, "e_geo": 2.0}},
        ("brain2", "transfer", 0): {"another tissue too": values},
    }
    options = argparse.Namespace(folds=["brain5", "brain2"], training_folds=["brain2"], seeds=[0])
    page, trained = levers.page(results, {}, {}, options).split("## What is trained on")
    assert "| another tissue too |" in trained
    assert "fold brain2 (Hippo1 + Hippo2 → Hippo5) alone" in trained
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| network alone", "| sharpened"]
    assert rows[0].split(" | ")[-2:] == ["1.500", "2 |"]
    assert rows[1].split(" | ")[-2:] == ["3.000", "1 |"]


def test_signs_of_trouble_are_a_table_of_their_own():
    rows = {"spread": {"uncertainty_spearman": 0.41, "certain_half_error": 0.8, "certain_half_median": 0.75}}
    options = argparse.Namespace(folds=["brain5"], training_folds=["brain5"], seeds=[0])
    page = levers.page({}, {}, {"brain2c": rows}, options)
    assert "| spread | brain2c | 0.410 | 0.800 | 0.750 |" in page
    assert "brain2c (Hippo5 + Hippo8 → Hippo4)" in page
    assert set(lever_doubts.FOLDS) <= set(levers.FOLDS)


def test_neighbours_in_own_components_are_counted(tmp_path, monkeypatch):
    slides = ipar.datasets.layered_tissue(n_slides=2, n_cells=150, random_state=0)
    slides.write_h5ad(tmp_path / "tissue.h5ad")
    one = tasks.Task("one", "tissue.h5ad", str(slides.obs["slide"].iloc[0]), None, "", counts=False)
    monkeypatch.setattr(own_neighbors, "SLIDES", {"one": one})
    found = own_neighbors.measure("one", tmp_path)
    assert set(found) == {f"{n}, {steps}" for n in own_neighbors.COMPONENTS for steps in own_neighbors.STEPS}
    query = tasks.load(one, tmp_path)
    x = np.asarray(query.query.X.todense() if sparse.issparse(query.query.X) else query.query.X, dtype=float)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    alike, near = (
        cdist(*[points] * 2, metric) for points, metric in (((u * s)[:, :30], "cosine"), (query.truth, "euclidean"))
    )
    nearest, true = (np.argsort(distances, axis=1)[:, 1 : k + 1] for distances, k in ((alike, 8), (near, 20)))
    expected = np.mean([np.isin(a, b).mean() for a, b in zip(nearest, true, strict=True)])
    assert found["30, 0"] == pytest.approx(expected, abs=2e-3)
    assert f"| 30 | {found['30, 0']:.3f} → " in "\n".join(own_neighbors.section({"one": found}))
