"""A smoke test of the benchmarks; their own tests are in benchmarks/tests."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(FOLDER.rglob("*.py"))
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in SCRIPTS
    if "tests" not in path.parts and not path.name.startswith(("place_", "__"))  # peers have environments of their own
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize("name", MODULES)
def test_modules_import(name):
    importlib.import_module(name)


def test_nothing_private_of_ipar_is_imported():
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SCRIPTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in read_by(node)
        if name.split(".")[0] == "ipar" and any(part.startswith("_") for part in name.split("."))
    }
    assert not found


def read_by(node: ast.AST) -> list[str]:
    """Full names that a node imports, or reads as attributes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [ast.unparse(node)] if isinstance(node, ast.Attribute) else []


def test_a_task_runs_without_what_no_method_may_read(make_slides, tmp_path, monkeypatch):
    from benchmarks import run
    from benchmarks.tasks import tasks

    task = tasks.Task("toy", "toy.h5ad", "c", ("a", "b"), "simulated", counts=False)
    slides = make_slides()
    found = tasks.split(slides, task)
    assert set(found.train.obs["slide"]) == {"a", "b"}
    assert not found.query.obsm
    slides.write_h5ad(tmp_path / task.file)
    monkeypatch.setitem(tasks.TASKS, task.name, task)
    assert run.run_one(task.name, "pca_knn", 0, tmp_path)["scores"]["luna_spearman"] > 0.5


def test_results_are_readable_and_identified():
    from benchmarks.tasks.records import KEYS, read

    pages = {path.stem for path in (FOLDER / "results").glob("*.jsonl")}
    assert pages == set(KEYS)
    for page in pages:
        found = [tuple(record[name] for name in KEYS[page]) for record in read(page, FOLDER / "results")]
        assert found, page
        assert found == sorted(set(found)), page
