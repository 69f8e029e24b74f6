from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from benchmarks.ablations import folds
from benchmarks.ablations.groups import GROUPS
from benchmarks.tasks import tasks


def numbered(n=201):
    """Cells whose only gene, and whose place, are their number."""
    cells = ad.AnnData(np.arange(n, dtype=np.float32)[:, None], obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]))
    return tasks.Slides(cells[:0].copy(), cells, np.c_[np.arange(n), np.zeros(n)])


@pytest.mark.parametrize("n_slides", [1, 2])
def test_halves_share_no_cell_and_keep_their_places(n_slides):
    one = folds.halves(numbered(), 3, n_slides)
    taught, asked = one.train.X[:, 0], one.query.X[:, 0]
    assert sorted([*taught, *asked]) == list(range(201))
    assert np.array_equal(one.train.obsm["spatial"][:, 0], taught)
    assert np.array_equal(one.truth[:, 0], asked)
    assert "spatial" not in one.query.obsm
    counts = one.train.obs["slide"].value_counts()
    assert len(counts) == n_slides
    assert counts.min() > 25
    again, other = (folds.halves(numbered(), seed, n_slides) for seed in (3, 4))
    assert np.array_equal(again.query.X, one.query.X)
    assert set(other.query.obs_names) != set(one.query.obs_names)


def test_no_scored_slide_has_a_part_in_a_fold():
    scored: dict[str, set[str]] = {}
    for task in tasks.TASKS.values():
        scored.setdefault(task.file, set()).add(task.test)
    for fold in folds.SECTIONS.values():
        assert not {fold.test, *fold.train} & scored[fold.file]
        assert fold.test not in fold.train
    for slide in folds.WHOLE.values():
        assert slide.test not in scored[slide.file]
    assert {fold for group in GROUPS.values() for fold, _ in group.runs} <= {*folds.FOLDS, *folds.WHOLE}


def test_folds_are_named_by_what_teaches():
    assert folds.kind_of("brain2") == "2 sections teach"
    assert folds.kind_of("embryo1") == "half of an embryo"
    assert folds.spelled("brain2c") == "brain2c (Hippo5 + Hippo8 → Hippo4)"


def test_the_embryo_alone_is_dealt(monkeypatch):
    monkeypatch.setattr(tasks, "load", lambda task, data: numbered())
    assert folds.load("brain2", 0, None).query.n_obs == 201
    assert folds.load("embryo1", 0, None, n_slides=1).query.n_obs == 101
