"""Predictions of cells that are not in memory are those of cells that are."""

from __future__ import annotations

import hashlib
import shutil
import warnings

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

import ipar
from ipar._cli import main
from ipar._lazy import in_memory

da = pytest.importorskip("dask.array")


def blocks(x, n, dense=False):
    found = da.from_array(x.toarray(), chunks=(-(-x.shape[0] // n), -1))
    return found if dense else found.map_blocks(sparse.csr_matrix)


def in_dask(n, dense=False):
    def convert(adata, _):
        adata.X = blocks(adata.X, n, dense)
        return adata

    return convert


def on_disk(read, suffix="h5ad", dense=False):
    def convert(adata, path):
        if dense:
            adata.X = adata.X.toarray()
        path = path / f"source.{suffix}"
        adata.write_zarr(path) if suffix == "zarr" else adata.write_h5ad(path)
        return read(path)

    return convert


def backed(path):
    return ad.read_h5ad(path, backed="r")


def lazy(path):
    return ad.experimental.read_lazy(path)


FORMS = {
    "backed": on_disk(backed),
    "backed dense": on_disk(backed, dense=True),
    "lazy": on_disk(lazy),
    "lazy dense": on_disk(lazy, dense=True),
    "lazy zarr": on_disk(lazy, "zarr"),
    "dask in 1": in_dask(1),
    "dask in 2": in_dask(2),
    "dask in 7": in_dask(7),
    "dense dask in 7": in_dask(7, dense=True),
}


def written(adata):
    """All that a prediction writes, by value."""
    found = {("obsm", key): np.asarray(adata.obsm[key]) for key in adata.obsm if key.startswith("X_ipar")}
    found |= {("obs", key): adata.obs[key].to_numpy() for key in adata.obs if key.startswith("ipar")}
    return found | {("obsp", key): in_memory(adata.obsp[key]).toarray() for key in adata.obsp}


def check_same(found, expected):
    found, expected = written(found), written(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key[1].startswith(("ipar_uncertainty", "ipar_belongs")):  # products whose last digits go by the block
            np.testing.assert_allclose(found[key], value, rtol=1e-6, atol=1e-6)
        else:
            assert np.array_equal(found[key], value, equal_nan=True), key


def content(path):
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return [(one.name, hashlib.sha256(one.read_bytes()).hexdigest()) for one in files]


@pytest.mark.parametrize(
    ("form", "options"),
    [
        pytest.param(form, options, id=f"{form}-{len(options)}", marks=[pytest.mark.thorough] * (form not in forms))
        for options, forms in (
            ({}, ("backed", "lazy", "lazy dense", "dask in 1", "dense dask in 7")),
            ({"library_key": "slide", "reference": "a"}, ("backed dense", "lazy zarr", "dask in 2", "dask in 7")),
        )
        for form in FORMS
    ],
)
def test_any_form_gives_the_prediction_in_memory(model, fitted, tmp_path, form, options):
    cells = fitted.train[fitted.train.obs["slide"] != "c"].copy() if options else fitted.query.copy()
    with warnings.catch_warnings(action="ignore"):
        given = FORMS[form](cells.copy(), tmp_path)
        before = [content(one) for one in tmp_path.iterdir()]
        ipar.tl.predict_coords(cells, model, progress=False, **options)
        ipar.tl.predict_coords(given, model, progress=False, **options)
    check_same(given, cells)
    assert list(given.obs_names) == list(cells.obs_names)
    assert [content(one) for one in tmp_path.iterdir()] == before  # files are as they were
    assert given.uns["ipar"]["prediction"]["cells_digest"] == cells.uns["ipar"]["prediction"]["cells_digest"]
    if given.isbacked:
        given.file.close()
    elif "lazy" in form or "dask" in form:
        assert hasattr(given.X, "dask")
    if "lazy" in form:
        assert np.array_equal(given.to_memory().obsm["X_ipar"], cells.obsm["X_ipar"])


def test_layers_and_counts_are_converted_out_of_core(model, query, tmp_path):
    query.write_zarr(tmp_path / "cells.zarr")
    given = lazy(tmp_path / "cells.zarr")
    with pytest.warns(UserWarning, match="looks like raw counts"):
        ipar.tl.predict_coords(given, model, layer="counts", progress=False)
    with pytest.warns(UserWarning, match="looks like raw counts"):
        ipar.tl.predict_coords(query, model, layer="counts", progress=False)
    check_same(given, query)


def test_a_copy_of_a_lazy_object_leaves_it_as_it_was(model, query, tmp_path):
    query.write_h5ad(tmp_path / "cells.h5ad")
    given = lazy(tmp_path / "cells.h5ad")
    found = ipar.tl.predict_coords(given, model, progress=False, copy=True)
    assert "X_ipar" in found.obsm
    assert "X_ipar" not in given.obsm
    assert "ipar_uncertainty" not in given.obs
    assert "ipar" not in given.uns
    with_file = backed(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"leave copy out, .* or call adata\.to_memory\(\) first"):
        ipar.tl.predict_coords(with_file, model, progress=False, copy=True)
    with_file.file.close()


def test_values_that_cannot_be_used_are_refused_as_in_memory(model, query, tmp_path):
    query.X[7, 3] = np.nan
    query.write_h5ad(tmp_path / "cells.h5ad")
    given = lazy(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="X has NaN or infinite values, the first found at cell 7, gene 3"):
        ipar.tl.predict_coords(given, model, progress=False)
    assert "X_ipar" not in given.obsm
    (tmp_path / "cells.h5ad").unlink()
    with pytest.raises(OSError, match="X cannot be read .*: look whether its file is still there"):
        ipar.tl.predict_coords(given, model, progress=False)


def test_a_zarr_store_that_vanished_is_not_taken_for_zeros(model, query, tmp_path):
    query.X = query.X.toarray()
    query.write_zarr(tmp_path / "cells.zarr")
    given = lazy(tmp_path / "cells.zarr")
    shutil.rmtree(tmp_path / "cells.zarr" / "X")
    with pytest.raises(OSError, match="X has no values other than zero: look whether its file is still there"):
        ipar.tl.predict_coords(given, model, progress=False)


@pytest.fixture
def command(model, query, tmp_path):
    """Write the query as a file, run ``ipar predict`` and give the status; `as_zarr` is the format of zarr stores."""
    model.save(tmp_path / "model")

    def run(suffix, as_zarr=2):
        source, out = tmp_path / f"cells.{suffix}", tmp_path / f"out.{suffix}"
        with ad.settings.override(zarr_write_format=as_zarr):
            query.write_zarr(source) if suffix == "zarr" else query.write_h5ad(source)
        before = content(source)
        status = main(["predict", str(source), "--model", str(tmp_path / "model"), "-o", str(out), "--quiet"])
        assert content(source) == before
        assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]
        return status, out

    return run


def refuse(*_, **__):
    msg = "the file was read as a whole"
    raise AssertionError(msg)


@pytest.mark.parametrize(("suffix", "as_zarr"), [("h5ad", 2), ("zarr", 2), ("zarr", 3)])
@pytest.mark.parametrize("dense", [False, True])
def test_the_command_copies_the_file_and_adds_results(command, model, query, suffix, as_zarr, dense, monkeypatch):
    """What it does not need, such as ``varm``, comes through, and the matrix is never read as a whole."""
    query.varm["loadings"] = np.ones((query.n_vars, 2))
    query.raw = query.copy()
    query.obsm["X_ipar_reference"] = np.zeros((query.n_obs, 2))  # of an earlier prediction, which goes
    if dense:
        query.X = query.X.toarray()
    with monkeypatch.context() as patch:
        patch.setattr(ad, "read_h5ad", refuse)
        patch.setattr(ad, "read_zarr", refuse)
        status, out = command(suffix, as_zarr)
    assert status == 0
    found = ad.read_zarr(out) if suffix == "zarr" else ad.read_h5ad(out)
    ipar.tl.predict_coords(query, model, progress=False)
    check_same(found, query)
    assert type(found.X) is type(query.X)
    assert not (found.X != query.X).sum()
    assert (found.layers["counts"] != query.layers["counts"]).nnz == 0
    assert np.array_equal(found.varm["loadings"], query.varm["loadings"])
    assert found.raw.shape == query.raw.shape
    assert found.uns["ipar"]["prediction"]["n_cells"] == 120


def test_the_command_reads_columns_as_a_whole(command, model, query):
    query.X = sparse.csc_matrix(query.X)
    status, out = command("h5ad")
    assert status == 0
    ipar.tl.predict_coords(query, model, progress=False)
    check_same(ad.read_h5ad(out), query)


@pytest.mark.parametrize(("name", "value"), [("indptr", 99_999), ("indices", 60)])
def test_a_broken_matrix_on_the_disk_is_told(model, query, tmp_path, capsys, name, value):
    model.save(tmp_path / "model")
    query.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        file["X"][name][5] = value
    arguments = ["--model", str(tmp_path / "model"), "-o", str(tmp_path / "out.h5ad"), "--quiet"]
    assert main(["predict", str(tmp_path / "cells.h5ad"), *arguments]) == 2
    assert "X is a broken sparse matrix" in capsys.readouterr().err
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("share", [0.3, 0.999, 1.02])
def test_a_full_disk_while_a_copy_is_written_leaves_the_old_file(command, tmp_path, suffix, share, capsys):
    """HDF5 would end the process by a segmentation fault where it finds no space."""
    resource = pytest.importorskip("resource")
    status, out = command(suffix)
    assert status == 0
    before, limits = content(out), resource.getrlimit(resource.RLIMIT_FSIZE)
    source = tmp_path / f"cells.{suffix}"
    largest = max(one.stat().st_size for one in (source, *source.rglob("*")) if one.is_file())
    arguments = ["predict", str(source), "--model", str(tmp_path / "model"), "-o", str(out), "--quiet"]
    if suffix == "zarr" and share > 1:  # all chunks fit that are written
        share = 0.9
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), limits[1]))
    try:
        status = main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert "No space left to write" in capsys.readouterr().err
    assert content(out) == before
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]
