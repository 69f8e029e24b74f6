"""The same values give the same results, however they are stored and in whatever order their rows stand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse

import ipar

NAMES = ("X_ipar", "X_ipar_reference", "X_ipar_regions", "X_ipar_regions_radii", "X_drawn", "X_drawn_samples")
COLUMNS = ("ipar_uncertainty", "ipar_belongs", "ipar_map_confidence")
QUIET = {"progress": False}


def place(cells, model):
    """All that is predicted of cells, by name."""
    ipar.tl.sample_coords(cells, model, n_samples=3, n_steps=3, key_added="X_drawn", **QUIET)
    ipar.tl.predict_coords(cells, model, reference="a", **QUIET)
    ipar.tl.predict_regions(cells, model, **QUIET)
    found = {name: np.asarray(cells.obsm[name], dtype=float) for name in NAMES}
    return found | {name: cells.obs[name].to_numpy(dtype=float) for name in COLUMNS}


@pytest.fixture(scope="module")
def usual(world):
    return place(world.query.copy(), world.model)


def with_zeros(x):
    """The same with zeros stored, and entries of a row in another order."""
    x, rng = sparse.coo_matrix(x), np.random.default_rng(0)
    rows, columns = rng.integers(0, x.shape[0], 300), rng.integers(0, x.shape[1], 300)
    empty = np.asarray(x.tocsr()[rows, columns]).ravel() == 0
    rows, columns = np.append(x.row, rows[empty]), np.append(x.col, columns[empty])
    order = np.lexsort((rng.random(len(rows)), rows))
    values = np.append(x.data, np.zeros(int(empty.sum()))).astype(np.float32)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=x.shape[0])))
    return sparse.csr_matrix((values[order], columns[order].astype(np.int32), indptr.astype(np.int32)), shape=x.shape)


@pytest.mark.parametrize(
    "stored",
    [
        lambda x: x.toarray(),
        sparse.csc_matrix,
        lambda x: sparse.csr_matrix(x, dtype=np.float64),
        lambda x: np.asfortranarray(x.toarray()),
        with_zeros,
    ],
    ids=["dense", "CSC", "float64", "Fortran order", "stored zeros"],
)
def test_formats(world, usual, stored):
    cells = world.query.copy()
    cells.X = stored(sparse.csr_matrix(cells.X))
    for name, value in place(cells, world.model).items():
        np.testing.assert_array_equal(value, usual[name], err_msg=name)


@pytest.mark.parametrize("seed", [1, 2])
def test_order_of_rows_and_genes(world, usual, seed):
    rng = np.random.default_rng(seed)
    rows, genes = rng.permutation(world.query.n_obs), rng.permutation(world.query.n_vars)
    for name, value in place(world.query[rows, genes].copy(), world.model).items():
        exact = name in ("X_ipar", "X_drawn", "X_drawn_samples")
        np.testing.assert_allclose(value, usual[name][rows], rtol=0, atol=0 if exact else 1e-4, err_msg=name)


@pytest.mark.parametrize("n_threads", [2, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 3, 4))])
def test_threads(world, usual, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = place(world.query.copy(), world.model)
    finally:
        torch.set_num_threads(before)
    for name, value in found.items():
        np.testing.assert_allclose(value, usual[name], rtol=0, atol=1e-4, err_msg=name)


def test_processes(world, usual):
    program = (
        "import sys, warnings, anndata, ipar, numpy\n"
        "warnings.simplefilter('ignore')\n"
        "model, cells = ipar.load(sys.argv[1] + '/model'), anndata.read_h5ad(sys.argv[1] + '/query.h5ad')\n"
        "ipar.tl.predict_coords(cells, model, progress=False)\n"
        "numpy.save(sys.argv[1] + '/coords.npy', cells.obsm['X_ipar'])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(world.folder)], check=True, timeout=120)
    np.testing.assert_allclose(np.load(world.folder / "coords.npy"), usual["X_ipar"], rtol=0, atol=1e-4)


def test_a_fit_does_not_depend_on_the_order_of_rows(world, settings):
    order = np.random.default_rng(0).permutation(world.slides.n_obs)
    one, other = world.slides.copy(), world.slides[order].copy()
    found = []
    for slides in (one, other):
        model = ipar.tl.fit_ipalite(slides, "slide", recipe=settings.fit["recipe"], max_epochs=1, **QUIET)
        cells = world.query.copy()
        ipar.tl.predict_coords(cells, model, **QUIET)
        found.append(cells.obsm["X_ipar"])
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(one.obsm["X_ipar_embed"][order], other.obsm["X_ipar_embed"])
