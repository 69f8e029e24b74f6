"""``ipar predict`` on a table of a SpatialData store: nothing is lost, and the matrix stays on the disk."""

from __future__ import annotations

import hashlib
import sys

import anndata as ad
import numpy as np
import pytest
import spatialdata as sd

import ipar
from ipar._cli import main
from tests.spatial.conftest import cells_as_circles


def content(path):
    return {
        str(one.relative_to(path)): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in path.rglob("*")
        if one.is_file()
    }


@pytest.fixture
def store(query, model, tmp_path):
    """A store, beside a model."""
    cells_as_circles(query).sdata.write(tmp_path / "cells.zarr")
    model.save(tmp_path / "model")
    return tmp_path / "cells.zarr"


def predict(store, output, *more):
    arguments = ["predict", store, "--model", store.parent / "model", "-o", output, "--quiet", *more]
    return main([str(one) for one in arguments])


def refuse(*_, **__):
    msg = "the table was read as a whole"
    raise AssertionError(msg)


def test_results_go_back_to_the_store(store, query, model, monkeypatch):
    before, raw = content(store), sd.read_zarr(store)["table"]
    with monkeypatch.context() as patch:
        patch.setattr(ad, "read_zarr", refuse)
        assert predict(store, store, "--table-key", "table") == 0
    after, sdata = content(store), sd.read_zarr(store)
    ipar.tl.predict_coords(query, model, progress=False)
    table = sdata["table"]
    assert np.array_equal(table.obsm["X_ipar"], query.obsm["X_ipar"])
    assert (table.X != raw.X).nnz == 0
    assert table.uns["spatialdata_attrs"] == raw.uns["spatialdata_attrs"]
    shapes = {name for name in before if name.startswith("shapes")}
    assert {name: after[name] for name in shapes} == {name: before[name] for name in shapes}
    points = sdata["ipar"].compute()
    assert np.allclose(points[["x", "y"]], query.obsm["X_ipar"])
    assert points["cell"].tolist() == query.obs_names.tolist()
    assert np.allclose(points["ipar_uncertainty"], query.obs["ipar_uncertainty"])
    assert set(sdata.coordinate_systems) == {"X_ipar", "global"}
    assert sdata.has_consolidated_metadata()
    assert not [one for one in store.rglob("*") if one.name.startswith(".")]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_the_table_goes_to_a_file_of_its_own(store, query, model, suffix):
    before, out = content(store), store.parent / f"out.{suffix}"
    assert predict(store, out, "--table-key", "table") == 0
    found = ad.read_zarr(out) if suffix == "zarr" else ad.read_h5ad(out)
    ipar.tl.predict_coords(query, model, progress=False)
    assert np.array_equal(found.obsm["X_ipar"], query.obsm["X_ipar"])
    assert content(store) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], r"is a SpatialData store with the tables ['table']: name one of these by --table-key"),
        (["--table-key", "cells"], r"has no table 'cells', found ['table']"),
        (["--table-key", "table", "--points-key", "cell_circles"], "has an element 'cell_circles' already"),
        (["--table-key", "table", "--points-key", "table"], "has an element 'table' already"),
        (["--table-key", "table", "--layer", "none"], "adata.layers has no 'none'"),
    ],
)
def test_what_cannot_work_leaves_the_store_as_it_was(store, options, says, capsys):
    before = content(store)
    assert predict(store, store, *options) == 2
    assert says in capsys.readouterr().err
    assert content(store) == before


def test_a_second_prediction_does_not_replace_points(store, capsys):
    assert predict(store, store, "--table-key", "table") == 0
    before = content(store)
    assert predict(store, store, "--table-key", "table") == 2
    assert "elements are never replaced: choose another name by --points-key" in capsys.readouterr().err
    assert content(store) == before


def test_an_interrupted_write_leaves_the_old_table(store, monkeypatch, capsys):
    before = content(store)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ipar._files._swap_in", interrupted)
        assert predict(store, store, "--table-key", "table") == 130
    assert content(store) == before
    with monkeypatch.context() as patch:
        patch.setattr(sd.SpatialData, "write_element", interrupted)
        assert predict(store, store, "--table-key", "table") == 130
    assert "X_ipar" in sd.read_zarr(store)["table"].obsm  # the table was written as a whole
    assert content(store).keys() >= before.keys()


def test_without_the_extra_the_remedy_is_told(store, query, model, monkeypatch, capsys):
    ipar.tl.predict_coords(query, model, progress=False)
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    assert predict(store, store, "--table-key", "table") == 2
    assert 'pip install "ipar[spatialdata]"' in capsys.readouterr().err
    with pytest.raises(ImportError, match=r'pip install "ipar\[spatialdata\]"'):
        ipar.get.points(query)
