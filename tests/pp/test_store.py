"""Training slides on disk: nothing is lost or changed, samples are even, and a fit from disk is that from memory."""

from __future__ import annotations

import shutil

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

import ipar
from ipar._training_store import StoreLayout, StoreTables, sampled_runs, write_store
from ipar.geometry.curve import hilbert_order
from ipar.training.slides import even_shares
from tests.conftest import SMALL, simulate


@pytest.fixture(scope="module")
def slides():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sparse.random(3000, 40, 0.3, format="csr", dtype=np.float32, random_state=0))
    adata.obs["slide"] = rng.choice(["a", "b", "c"], 3000, p=[0.1, 0.3, 0.6])  # scattered over the file
    adata.obsm["spatial"] = rng.random((3000, 2)) * [4e4, 1e4] + 1e6
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture(scope="module")
def store(slides, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "slides.zarr"
    ipar.pp.write_training_store(slides, path, "slide", progress=False)
    return path


@pytest.mark.parametrize(("d", "side"), [(2, 16), (2, 128), (3, 8)])
def test_a_hilbert_curve_goes_from_neighbour_to_neighbour_through_every_step(d, side):
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d), axis=-1).reshape(-1, d).astype(float)
    grid = np.random.default_rng(0).permutation(grid)
    order = hilbert_order(grid * 7 - 3, n_bits=side.bit_length() - 1)
    assert sorted(order) == list(range(side**d))
    np.testing.assert_array_equal(np.abs(np.diff(grid[order], axis=0)).sum(axis=1), 1)


@pytest.mark.parametrize("form", ["memory", "backed", "lazy", "dask"])
def test_a_store_holds_every_cell_as_it_was(slides, form, tmp_path):
    given = slides.copy()
    if form == "dask":
        given.X = pytest.importorskip("dask.array").from_array(slides.X.toarray(), chunks=(700, -1))
    elif form != "memory":
        slides.write_h5ad(tmp_path / "slides.h5ad")
        read = ad.experimental.read_lazy if form == "lazy" else ad.read_h5ad
        given = read(tmp_path / "slides.h5ad", **({} if form == "lazy" else {"backed": "r"}))
    path = tmp_path / "slides.zarr"
    ipar.pp.write_training_store(given, path, "slide", progress=False)
    found = ipar.pp.read_training_store(path)[slides.obs_names]
    assert (found.X != slides.X).nnz == 0
    np.testing.assert_array_equal(found.obsm["spatial"], slides.obsm["spatial"])
    assert list(found.obs["slide"]) == list(slides.obs["slide"])
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_blocks_do_not_show(slides, store, tmp_path):
    from ipar._run import Run
    from ipar._sources import expression_rows
    from ipar.pp._embed import training_slides

    labels, coords = training_slides(slides, "slide"), slides.obsm["spatial"]
    tables = StoreTables(slides.obs, slides.var, coords, labels, "slide", "spatial")
    small = StoreLayout(most_values=1500, chunk=100, run=16)
    write_store(tmp_path / "other.zarr", expression_rows(slides, None), tables, Run(), small)
    one, other = (ipar.pp.read_training_store(path) for path in (store, tmp_path / "other.zarr"))
    assert list(one.obs_names) == list(other.obs_names)
    assert (one.X != other.X).nnz == 0


def test_cells_read_together_are_neighbours(store):
    found = ipar.pp.read_training_store(store)
    for _, own in found.obs.groupby("slide", observed=True):
        coords = found[own.index].obsm["spatial"]
        steps = np.linalg.norm(np.diff(coords, axis=0), axis=1)
        nearest = cKDTree(coords).query(coords, 2)[0][:, 1]
        assert np.median(steps) < 3 * np.median(nearest)


def test_a_sample_is_even_over_slides_and_over_the_tissue(slides, store):
    found = ipar.pp.read_training_store(store, 1200, random_state=1)
    sizes, counts = slides.obs["slide"].value_counts(), found.obs["slide"].value_counts()
    assert counts["a"] == sizes["a"]  # all of a small slide
    assert 1190 <= counts.sum() <= 1200
    assert abs(counts["b"] - counts["c"]) <= 1
    coords = found[found.obs["slide"] == "c"].obsm["spatial"] - [1e6, 1e6]
    quarters = np.histogram2d(*coords.T, bins=2, range=[[0, 4e4], [0, 1e4]])[0]
    assert quarters.min() > 0.6 * quarters.max()
    assert (found.X != slides[found.obs_names].X).nnz == 0
    assert not np.array_equal(found.obs_names, ipar.pp.read_training_store(store, 1200, random_state=2).obs_names)


@pytest.mark.parametrize("n_cells", [1, 5, 63, 64, 65, 999, 5000])
def test_runs_do_not_overlap_or_leave_their_slide(n_cells):
    starts = np.array([0, 3, 103, 1103])
    runs = list(sampled_runs(starts, n_cells, StoreLayout(), np.random.default_rng(0)))
    cells = np.concatenate([np.arange(*run) for run in runs]) if runs else np.empty(0)
    assert len(np.unique(cells)) == len(cells) == even_shares(np.diff(starts), n_cells).sum() <= n_cells
    slide = np.searchsorted(starts, [list(run) for run in runs], side="right") - 1
    assert all(start < stop for start, stop in runs)
    assert (slide[:, 0] == np.searchsorted(starts, [run[1] - 1 for run in runs], side="right") - 1).all()


def test_a_fit_of_all_cells_of_a_store_is_that_of_the_slides(tmp_path):
    train = simulate(("a", "b", "c"), n_cells=60)
    ipar.pp.write_training_store(train, tmp_path / "slides.zarr", "slide", progress=False)
    read = ipar.pp.read_training_store(tmp_path / "slides.zarr")
    one, other = (ipar.tl.fit_ipalite(cells, "slide", **SMALL) for cells in (train, read))
    query = simulate(("q",), seed=5)
    query.obs = query.obs.drop(columns="slide")
    coords = []
    for model in (one, other):
        ipar.tl.predict_coords(query, model, progress=False)
        coords.append(query.obsm["X_ipar"])
    np.testing.assert_array_equal(*coords)


def test_an_interrupted_write_leaves_the_old_store(slides, store, tmp_path, monkeypatch):
    path = tmp_path / "slides.zarr"
    shutil.copytree(store, path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ipar._chunks.InMemory.take", stop)
    with pytest.raises(KeyboardInterrupt):
        ipar.pp.write_training_store(slides[:50].copy(), path, "slide", progress=False)
    assert [one.name for one in tmp_path.iterdir()] == ["slides.zarr"]
    assert ipar.pp.read_training_store(path).n_obs == slides.n_obs


def test_what_is_no_store_is_named(slides, store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not written to its end: write it with ipar.pp.write_training_store"):
        ipar.pp.read_training_store(tmp_path / "none.zarr")
    slides.write_zarr(tmp_path / "cells.zarr")
    with pytest.raises(ValueError, match="is not a training store: write it with"):
        ipar.pp.read_training_store(tmp_path / "cells.zarr")
    with pytest.raises(FileExistsError, match="is not a training store: choose another path"):
        ipar.pp.write_training_store(slides, tmp_path / "cells.zarr", "slide")
    shutil.copytree(store, tmp_path / "half.zarr")
    shutil.rmtree(tmp_path / "half.zarr" / "X" / "indices")
    with pytest.raises(ValueError, match="is a broken training store .* write it again"):
        ipar.pp.read_training_store(tmp_path / "half.zarr")


def test_values_that_are_not_finite_are_refused(slides, tmp_path):
    spoilt = slides.copy()
    spoilt.X.data[7] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values"):
        ipar.pp.write_training_store(spoilt, tmp_path / "slides.zarr", "slide")
    assert not list(tmp_path.iterdir())
