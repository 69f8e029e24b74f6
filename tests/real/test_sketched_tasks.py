from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest

from ipar import _steps

pytestmark = pytest.mark.real

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_page_knows_which_tasks_teach_a_sketch(real_data, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import report
    import tasks

    sketched = []
    for name, task in tasks.TASKS.items():
        cells = ad.read_h5ad(real_data(task.file), backed="r").obs["slide"].value_counts()
        taught = cells[list(task.train)] if task.train else cells.drop(task.test)
        if taught.sum() > _steps.FEW_CELLS:
            sketched.append(name)
    assert tuple(sketched) == report.SKETCHED
