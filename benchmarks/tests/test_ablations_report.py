from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

import ipar
from benchmarks.ablations import neighbors, report, texts
from benchmarks.ablations.fits import SCORES
from benchmarks.ablations.groups import GROUPS
from benchmarks.tasks import tasks


def record(layouts):
    return {"layouts": layouts}


def test_rows_are_means_over_the_runs_that_have_them():
    values = dict.fromkeys(SCORES, 1.0)
    results = {
        "steps": [
            record({"network alone": values, "sharpened": {**values, "e_geo": 3.0}}),
            record({"network alone": {**values, "e_geo": 2.0}}),
        ],
        "transfer": [record({"another tissue too": values})],
    }
    page, trained = report.page(results, "some command").split("## What is trained on")
    assert "| another tissue too |" in trained
    assert "one fold, brain2b (Hippo4 + Hippo7 → Hippo8)" in trained
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| network alone", "| sharpened"]
    assert rows[0].split(" | ")[-2:] == ["1.500", "2 |"]
    assert rows[1].split(" | ")[-2:] == ["3.000", "1 |"]


def test_a_score_that_older_runs_have_not_kept_is_of_those_that_have():
    old = dict.fromkeys(SCORES, 1.0)
    del old["evenness_ratio"]
    both = {"steps": [record({"a": old, "b": old}), record({"a": {**old, "evenness_ratio": 1.5}})]}
    rows = [line for line in report.page(both, "some command").splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[-3] for row in rows] == ["1.500", "–"]


def test_signs_of_trouble_are_a_table_of_their_own():
    rows = {"spread": {"uncertainty_spearman": 0.41, "certain_half_error": 0.8, "certain_half_median": 0.75}}
    page = report.page({"doubts": [{"fold": "brain2c", "layouts": rows}]}, "some command")
    assert "| spread | brain2c | 0.410 | 0.800 | 0.750 |" in page
    assert "brain2c (Hippo5 + Hippo8 → Hippo4)" in page


def test_every_group_has_its_place_on_the_page():
    shown = {group for _, _, groups in report.PARTS for group in groups}
    assert shown | {"networks", "neighbors", "doubts"} == set(GROUPS)  # these have tables of their own
    assert [name for name, group in GROUPS.items() if group.measure is None] == ["sketch"]
    assert "earlier version" in texts.SKETCH


def test_neighbours_in_own_components_are_counted(tmp_path, monkeypatch):
    slides = ipar.datasets.layered_tissue(n_slides=2, n_cells=150, random_state=0)
    slides.write_h5ad(tmp_path / "tissue.h5ad")
    one = tasks.Task("one", "tissue.h5ad", str(slides.obs["slide"].iloc[0]), None, "", counts=False)
    monkeypatch.setattr(neighbors, "WHOLE", {"one": one})
    found = neighbors.measure("one", tmp_path)
    assert set(found) == {f"{n}, {steps}" for n in neighbors.COMPONENTS for steps in neighbors.STEPS}
    query = tasks.load(one, tmp_path)
    x = np.asarray(query.query.X.todense() if sparse.issparse(query.query.X) else query.query.X, dtype=float)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    alike, near = (
        cdist(*[points] * 2, metric) for points, metric in (((u * s)[:, :30], "cosine"), (query.truth, "euclidean"))
    )
    nearest, true = (np.argsort(distances, axis=1)[:, 1 : k + 1] for distances, k in ((alike, 8), (near, 20)))
    expected = np.mean([np.isin(a, b).mean() for a, b in zip(nearest, true, strict=True)])
    assert found["30, 0"] == pytest.approx(expected, abs=2e-3)
    page = report.page({"neighbors": [{"fold": "one", "shares": found}]}, "some command")
    assert f"| 30 | {found['30, 0']:.3f} → " in page
    assert "The default is 100 components, averaged 2 times." in page


def test_changes_of_the_network_are_given_fold_by_fold_and_marked_where_folds_agree():
    def run(gain):
        scores = {"luna_spearman": 0.5, "knn_hit_20_ratio": 8.0, "procrustes_rmse": 0.4, "e_geo": 1.0}
        changed = {key: value + gain for key, value in scores.items()} | {"knn_hit_20_ratio": 9.0}
        names = {"as it is": scores, "other": changed}
        return {f"{part}: {name}": one for part in ("network alone", "finished") for name, one in names.items()}

    runs = [run(0.1), run(0.2)]
    row = report.table_of_trials(runs)[-1]
    assert row.count("**+1.000** | *+0.150*") == 2  # more hits, then more of what is better if lower
    assert report.table_of_trials([run(0.1), run(-0.2)])[-1].count("| -0.050 ") == 5
    short = report.in_short({"networks": [{"layouts": one} for one in runs]})
    assert short.splitlines()[-1] == "| other | 1.10 and 1.20 | 0.60 and 0.70 | 1.10 and 1.20 | 0.60 and 0.70 |"
