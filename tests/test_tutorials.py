"""Tutorials run from top to bottom; training is cut short, so that this takes seconds and not minutes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))

# put before the first cell: the same calls with the least training that goes through every step
SHORT = """
import functools
import ipar
from ipar.training import EncoderRecipe, FinishRecipe, FlowRecipe, NetworkRecipe, Recipe, UncertaintyRecipe
from ipar.training import EncoderTraining
from ipar.training import FlowTraining
from ipar.training import IPALiteTraining
from ipar.training import MinisetPlan
from ipar.training import SetEncoderTraining

_few = EncoderTraining(n_steps=40, batch_size=256)
_recipe = Recipe(
    embed=EncoderRecipe(
        pca_training=_few, genes_training=_few, set_encoder_training=SetEncoderTraining(n_steps=5), n_minisets=2
    ),
    network=NetworkRecipe(training=IPALiteTraining(gate_steps=20), plan=MinisetPlan(n_minisets=6, size=(96, 128))),
    flow=FlowRecipe(
        training=FlowTraining(gate_steps=20), plan=MinisetPlan(n_minisets=4, size=(48, 64), n_neighbors=24)
    ),
    finish=FinishRecipe(n_minisets=2),
    uncertainty=UncertaintyRecipe(n_samples=2, most_drawn=200),
)


def _forced(function, **least):  # also where a tutorial asks for more itself
    return lambda *args, **options: function(*args, **(options | least))


ipar.pp.embed = functools.partial(ipar.pp.embed, recipe=_recipe.embed)
for _name in ("fit_ipalite", "fit_iga"):
    setattr(ipar.tl, _name, _forced(getattr(ipar.tl, _name), recipe=_recipe, max_epochs=2))
ipar.tl.fit_ipalite = _forced(ipar.tl.fit_ipalite, quality="default")  # a recipe takes the place of a quality
ipar.tl.sample_coords = _forced(ipar.tl.sample_coords, n_samples=8, n_steps=3)
ipar.baselines.distance_embedding_mds = functools.partial(ipar.baselines.distance_embedding_mds, n_steps=40)
_fetch = ipar.datasets.fetch


def _fewer(name):  # cells of large public data
    import numpy as np

    found = _fetch(name)
    return found[np.random.default_rng(0).permutation(found.n_obs)[:1800]].copy() if found.n_obs > 9000 else found


ipar.datasets.fetch = _fewer
ipar.tl.attention_diagnostics = _forced(ipar.tl.attention_diagnostics, n_minisets=2)
ipar.tl.decompose_gap = _forced(ipar.tl.decompose_gap, n_minisets=2)
# smaller slides of the same tissues
for _name, _size in (("layered_tissue", 400), ("layered_tissue_dissociated", 400), ("liver_lobules", 400)):
    setattr(ipar.datasets, _name, _forced(getattr(ipar.datasets, _name), n_cells=_size))
"""


def test_there_is_a_tutorial():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.thorough] * (path.stem in ("gallery", "a_million_cells")))
        for path in NOTEBOOKS
    ],  # of minutes
    ids=lambda path: path.stem,
)
def test_tutorial_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    committed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in committed), "a cell was committed without having been run"
    folder = Path(os.environ.get("IPAR_DATA") or ROOT.parent / "shared" / "data")
    source = "\n".join(cell.source for cell in committed)
    for name in re.findall(r'fetch\("(\w+)"\)', source):  # real data, which stand beside the repository
        if not (folder / f"{name}.h5ad").is_file():
            pytest.skip(f"no real data: {folder / name}.h5ad is absent; set IPAR_DATA to the folder of the slides")
    monkeypatch.setenv("IPAR_DATA", str(folder))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SHORT))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises on the first cell that fails
    assert not list(tmp_path.iterdir()), "a tutorial leaves files behind"
