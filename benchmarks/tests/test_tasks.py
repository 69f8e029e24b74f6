from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.tasks import tasks


def test_query_carries_expression_and_labels_only(slides):
    query = slides.query
    for name in ("obsm", "obsp", "uns", "layers", "varm", "varp"):
        assert not getattr(query, name), name
    assert list(query.obs) == ["slide", "cell_type"]
    assert list(query.var) == []
    assert query.raw is None


def test_truth_belongs_to_the_same_rows(adata, slides):
    counts = np.expm1(np.asarray(slides.query.X))
    for row in (0, 17, 79):
        profile = counts[row] / counts[row].sum()
        original = adata.X / adata.X.sum(axis=1, keepdims=True)
        source = int(np.abs(original - profile).sum(axis=1).argmin())
        np.testing.assert_allclose(original[source], profile, rtol=1e-3)
        np.testing.assert_array_equal(adata.obsm["spatial"][source], slides.truth[row])
        assert adata.obs["slide"].iloc[source] == "MOB4"


def test_rows_are_shuffled(adata, slides):
    assert not np.array_equal(slides.truth, adata[adata.obs["slide"] == "MOB4"].obsm["spatial"])


def test_training_slides_are_the_others(slides):
    assert set(slides.train.obs["slide"]) == {"MOB1", "MOB2", "MOB3"}
    assert slides.train.obsm["spatial"].shape == (240, 2)


def test_counts_are_normalised_and_the_rest_left_alone(adata, slides):
    np.testing.assert_allclose(np.expm1(slides.train.X).sum(axis=1), 1e4, rtol=1e-4)
    as_is = tasks.split(adata, replace(tasks.TASKS["ob"], counts=False))
    assert set(np.unique(as_is.query.X)) <= set(np.unique(adata.X))


def test_source_is_not_changed(adata):
    before = adata.copy()
    tasks.split(adata, tasks.TASKS["ob"])
    np.testing.assert_array_equal(adata.X, before.X)
    assert list(adata.obs_names) == list(before.obs_names)


def test_all_other_slides_train_where_none_are_named(adata):
    task = replace(tasks.TASKS["ob"], train=None, test="MOB2")
    assert set(tasks.split(adata, task).train.obs["slide"]) == {"MOB1", "MOB3", "MOB4"}


def test_missing_slides_and_files_are_named(adata, tmp_path):
    with pytest.raises(ValueError, match="Hippo"):
        tasks.split(adata, tasks.TASKS["brain2"])
    with pytest.raises(FileNotFoundError, match="mouse_liver_st.h5ad"):
        tasks.load(tasks.TASKS["liver"], tmp_path)


def test_no_task_trains_on_what_it_scores():
    assert all(task.train is None or task.test not in task.train for task in tasks.TASKS.values())
    assert all(name == task.name for name, task in tasks.TASKS.items())
