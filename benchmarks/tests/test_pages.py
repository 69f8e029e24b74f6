"""Every page is what its command makes of the records."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "benchmarks.run": ("docs/benchmarks.md", ["--seeds", "0", "1", "2", "3", "4"]),
    "benchmarks.ablations.run": ("benchmarks/ablations.md", []),
    "benchmarks.family.run": ("benchmarks/family.md", []),
    "benchmarks.iga.run": ("docs/iga.md", []),
    "benchmarks.localisability": ("docs/localisability.md", []),
    "benchmarks.speed": ("docs/speed.md", []),
}


def lines(path):
    """All lines but the command, which names another path here."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("python -m ")]


@pytest.mark.parametrize("module", PAGES)
def test_pages_are_those_of_their_records(module, tmp_path, monkeypatch):
    page, options = PAGES[module]
    made = tmp_path / Path(page).name
    shutil.copy(ROOT / page, made)  # of one page a part alone is replaced
    tables = ["--tables", str(tmp_path / "tables.md")] if module == "benchmarks.run" else []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main", "--report-only", *options, *tables, "--markdown", str(made)])
    importlib.import_module(module).main()
    assert lines(made) == lines(ROOT / page)
    if tables:
        assert lines(tmp_path / "tables.md") == lines(ROOT / "benchmarks/tables.md")


@pytest.mark.parametrize("module", PAGES)
def test_pages_tell_their_command(module):
    page, _ = PAGES[module]
    assert f"python -m {module}" in (ROOT / page).read_text(encoding="utf-8")
