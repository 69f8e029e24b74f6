"""Tutorials run from top to bottom; training is cut short, so that this takes seconds and not minutes.

A kernel runs them one by one, for loading packages and compiling code takes longer than most cells.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
FOLDER = Path(os.environ.get("IPAR_DATA") or ROOT.parent / "shared" / "data")
SHORT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.shortened import shorten
shorten()
"""
FRESH = """
%reset -f
%config InlineBackend.close_figures = True
%cd -q {folder}
"""


@pytest.fixture(scope="module")
def kernel():
    """A kernel in which training is short."""
    manager, client = start_new_kernel(env=os.environ | {"IPAR_DATA": str(FOLDER)})
    reply = client.execute_interactive(SHORT, output_hook=lambda _: None)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel()


def test_there_is_a_tutorial():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs(path, kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    committed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in committed), "a cell was committed without having been run"
    source = "\n".join(cell.source for cell in committed)
    for name in re.findall(r'fetch\("(\w+)"\)', source):  # real data, which stand beside the repository
        if not (FOLDER / f"{name}.h5ad").is_file():
            pytest.skip(f"no real data: {FOLDER / name}.h5ad is absent; set IPAR_DATA to the folder of the slides")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FRESH.format(folder=tmp_path)))
    client = nbclient.NotebookClient(notebook, km=kernel[0], timeout=300)
    client.kc = kernel[1]
    client.execute(reset_kc=False, cleanup_kc=False)  # raises on the first cell that fails
    assert not list(tmp_path.iterdir()), "a tutorial leaves files behind"
