"""Tutorials run from top to bottom; training is cut short, so that this takes seconds and not minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))

# put before the first cell: the same calls with the least training that goes through every step
SHORT = """
import functools
import ipar
from ipar.model import _ipalite
from ipar.tl import _fit, _fitting, _flow
from ipar.training import (
    EncoderRecipe,
    EncoderTraining,
    FlowTraining,
    IPALiteTraining,
    MinisetPlan,
    SetEncoderTraining,
    _fit_finish,
    _overview_weight,
)

for _module in (_fit_finish, _overview_weight):
    _module.e_geo_minisets = functools.partial(_module.e_geo_minisets, n_minisets=2)
_few = EncoderTraining(n_steps=40, batch_size=256)
_recipe = EncoderRecipe(pca_training=_few, genes_training=_few, set_encoder_training=SetEncoderTraining(n_steps=5))
ipar.pp.embed = _fitting.embed = functools.partial(ipar.pp.embed, recipe=_recipe)
ipar.baselines.distance_embedding_mds = functools.partial(ipar.baselines.distance_embedding_mds, n_steps=40)
_gate = IPALiteTraining(gate_steps=20)
ipar.tl.fit_ipalite = functools.partial(
    ipar.tl.fit_ipalite, training=_gate, n_minisets=6, miniset_size=(96, 128), max_epochs=2
)
# the flow has a training of its own, and expected errors read samples of it
_flow.PLAN = MinisetPlan(n_minisets=4, size=(48, 64), n_neighbors=24)
_flow.FlowTraining = functools.partial(FlowTraining, gate_steps=20)
for _module in (_fit, _ipalite):
    _module.spread_of = functools.partial(_module.spread_of, n_samples=2, most_drawn=200)


def _forced(function, **least):  # also where a tutorial asks for more itself
    return lambda *args, **options: function(*args, **(options | least))


# smaller slides of the same tissues
for _name, _size in (("layered_tissue", 400), ("layered_tissue_dissociated", 400), ("liver_lobules", 400)):
    setattr(ipar.datasets, _name, _forced(getattr(ipar.datasets, _name), n_cells=_size))
ipar.tl.fit_iga = _forced(ipar.tl.fit_iga, recipe=_recipe, n_minisets=4, miniset_size=(48, 64), max_epochs=2)
ipar.tl.sample_coords = _forced(ipar.tl.sample_coords, n_samples=8, n_steps=3)
"""


def test_there_is_a_tutorial():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    committed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in committed), "a cell was committed without having been run"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SHORT))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises on the first cell that fails
    assert not list(tmp_path.iterdir()), "a tutorial leaves files behind"
