"""Files that are read and written: mutated h5ad files, permissions, links, special files, paths, full disks.

``IPAR_MATRIX_SEEDS=1000:1300`` mutates h5ad files by other seeds than those of the suite.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import re
import shutil
import socket
import stat
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

import ipar
from ipar import _files
from ipar._cli import _files as commands
from ipar._cli import main

FIRST, LAST = map(int, os.environ.get("IPAR_MATRIX_SEEDS", "0:50").split(":"))


@pytest.fixture(autouse=True)
def _restored():
    """The command line sets up logging and warnings, as it has the process to itself."""
    root, own = logging.getLogger(), logging.getLogger("ipar")
    handlers, levels = root.handlers[:], (root.level, own.level)
    with warnings.catch_warnings(action="ignore"):
        yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture(scope="module")
def kept(fitted, tmp_path_factory):
    """A saved model and a file of cells with a layout."""
    home = tmp_path_factory.mktemp("kept")
    fitted.model.save(home / "model")
    cells = fitted.query[:60].copy()
    ipar.tl.predict_coords(cells, fitted.model, progress=False)
    cells.layers["csc"] = sparse.csc_matrix(cells.X)
    cells.obsm["X_sparse"] = sparse.csr_matrix(cells.obsm["X_ipar"])
    cells.write_h5ad(home / "cells.h5ad")
    return home


@pytest.fixture
def place(kept, tmp_path):
    """The same in a directory of its own."""
    shutil.copytree(kept, tmp_path / "place")
    return tmp_path / "place"


def run(*arguments):
    """Exit status of a command."""
    return main([str(one) for one in arguments])


def predict(place, out, *more, cells="cells.h5ad"):
    return run("predict", place / cells, "--model", place / "model", "-o", out, "--quiet", *more)


# mutated files


def groups_and_sets(file):
    found = []
    file.visit(found.append)
    return sorted(found)


def change_structure(path, rng):
    """Delete, replace, rename or retype something in the file."""
    with h5py.File(path, "r+") as file:
        name = rng.choice([one for one in groups_and_sets(file) if not one.startswith("uns")])
        how = rng.choice(["delete", "group", "text", "number", "nan", "short", "flat", "encoding", "no encoding", "move"])
        item = file[name]
        if how == "encoding":
            item.attrs["encoding-type"] = rng.choice(["csr_matrix", "array", "dataframe", "nothing"])
        elif how == "no encoding":
            for key in rng.sample(sorted(item.attrs), min(len(item.attrs), rng.randint(1, 3))):
                del item.attrs[key]
        elif how == "move":
            file.move(name, f"{name}_2")
        else:
            value = np.asarray(item[()]) if isinstance(item, h5py.Dataset) else np.zeros((3, 2))
            del file[name]
            _put(file, name, value, how)


def _put(file, name, value, how):
    if how == "group":
        file.create_group(name)
    elif how in ("text", "number"):
        file[name] = "text" if how == "text" else -7
    elif how == "nan" and value.dtype.kind in "fiu" and value.size:
        spoilt = value.astype(float)
        spoilt.ravel()[0] = np.nan
        file[name] = spoilt
    elif how == "short" and value.ndim:
        file[name] = value[: len(value) // 2]
    elif how == "flat" and value.ndim:
        file[name] = value[None]


def change_sparse(path, rng):
    """Indices and pointers of a sparse matrix that are out of range, not sorted, double, or too few."""
    with h5py.File(path, "r+") as file:
        group = file[rng.choice(["X", "layers/csc", "layers/counts", "obsm/X_sparse"])]
        what = rng.choice(["indices", "indptr"])
        value = group[what][:]
        how = rng.choice(["large", "negative", "huge", "shuffled", "double", "cut", "shape"])
        at = rng.randrange(len(value))
        if how in ("large", "negative", "huge"):
            value[at] = {"large": 1000, "negative": -5, "huge": 2**31 - 1}[how]
        elif how == "shuffled":
            rng.shuffle(value)
        elif how == "double":
            value[at] = value[at - 1]
        elif how == "shape":
            group.attrs["shape"] = np.array([60, 3]) if what == "indices" else np.array([6000, 60])
        else:
            value = value[: len(value) // 2]
        del group[what]
        group[what] = value


def change_bytes(path, rng):
    """Bits flipped, or the end cut off."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        content = content[: rng.randrange(len(content))]
    for _ in range(rng.choice([1, 10, 100])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


CHANGES: list[Callable] = [change_structure, change_sparse, change_bytes]
SAID = re.compile(r"cells\.h5ad|\b(Expression|X|obs|var|obsm|layers|uns|genes|cells|slides?|values)\b")


def judged(status, said, out):
    """What a command did; AssertionError if it is not clear."""
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if status == 0:
        if out is not None and out.exists():
            assert np.isfinite(ad.read_h5ad(out).obsm["X_ipar"]).all()
        return "works"
    assert status == 2
    assert re.match(r"ipar \w+: ", last), last
    assert SAID.search(last), last
    assert len(last) < 900, last
    assert out is None or not out.exists()
    return "refused"


@pytest.mark.parametrize("block", range(FIRST, LAST, 10))
def test_mutated_h5ad_files(place, capsys, block):
    out, path = place / "out.h5ad", place / "cells.h5ad"
    whole = path.read_bytes()
    for seed in range(block, min(block + 10, LAST)):
        rng = random.Random(seed)
        path.write_bytes(whole)
        rng.choice(CHANGES)(path, rng)
        layer = ["--layer", "csc"] if rng.random() < 0.2 else []
        for command in (
            lambda more=layer: predict(place, out, *more),
            lambda: run("evaluate", path, "--json"),
            lambda: run("evaluate", path, "--use-rep", "X_sparse"),
        ):
            out.unlink(missing_ok=True)
            capsys.readouterr()
            status = command()
            try:
                judged(status, capsys.readouterr().err, out)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}") from error
