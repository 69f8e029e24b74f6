"""Processes killed at random moments: the old file or the new one is whole, and nothing lies about after the next run.

One process loads everything, and forks a writer for every kill. ``IPAR_MATRIX_SEEDS=1000:1300`` kills at other moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import anndata as ad
import numpy as np
import pytest

import ipar

FIRST, LAST = map(int, os.environ.get("IPAR_MATRIX_SEEDS", "0:30").split(":"))
pytestmark = [pytest.mark.slow, pytest.mark.thorough]

SERVER = """
import os, signal, sys, warnings
import anndata as ad
import ipar
from ipar._cli import main
from ipar._cli import _demo  # all that a command loads
from ipar.model import Blend
from dataclasses import replace

warnings.simplefilter("ignore")
os.chdir(sys.argv[1])
model = ipar.load("start")
verdict = model.record["localisability"]

def save(number):
    replace(model, blend=Blend(number / 64)).save("saved")

# the kills are for what is done with files, not for what is computed between

def predict(number, out="out.h5ad"):
    def predicted(adata, *_, random_state, **__):
        adata.obsm["X_ipar"] = adata.obsm["spatial"]
        adata.uns["ipar"] = {"prediction": {"random_state": random_state}}
    ipar.tl.predict_coords = predicted
    main(["predict", "cells.h5ad", "--model", "start", "-o", out, "--seed", str(number)])

def predict_zarr(number):
    predict(number, "out.zarr")

def fit(number):
    def fitted(adata, *_, **__):
        adata.uns["ipar"] = {"localisability": verdict}
        return replace(model, blend=Blend(number / 64))
    ipar.tl.fit_ipalite = fitted
    main(["fit", "cells.h5ad", "--model", "fitted"])

def store(number):
    cells = ad.read_h5ad("cells.h5ad")
    cells.obs["number"] = number
    ipar.pp.write_training_store(cells, "slides.store", progress=False)

sys.stderr = open(os.devnull, "w")
while line := sys.stdin.readline():
    job, number = line.split()
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr
        try:
            globals()[job](int(number))
        finally:
            os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # not before is the child, if it has ended, forgotten: its number may become another's
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Writer:
    """The process that forks."""

    def __init__(self, home):
        self.home = home
        command = [sys.executable, "-c", SERVER, str(home)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, job, number, kill=None, after=0.0):
        """Seconds that a job takes, unless it is killed."""
        self.process.stdin.write(f"{job} {number}\n")
        self.process.stdin.flush()
        child, start = int(self.process.stdout.readline()), time.monotonic()
        if kill is not None:
            time.sleep(after)
            os.kill(child, kill)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        assert kill is not None or status == 0
        return time.monotonic() - start


@pytest.fixture(scope="module")
def writer(fitted, tmp_path_factory):
    home = tmp_path_factory.mktemp("kills")
    fitted.model.save(home / "start")
    cells = fitted.query[:40].copy()
    del cells.layers["counts"]
    cells.write_h5ad(home / "cells.h5ad")
    made = Writer(home)
    yield made
    made.process.stdin.close()
    made.process.wait()


def number_of(path):
    """Which run wrote a file, all of which must be readable."""
    if path.suffix == ".store":
        stored = ipar.pp.read_training_store(path)
        assert (stored.X.sum(axis=1) > 0).all()
        return int(stored.obs["number"].unique().item())
    if path.suffix in (".h5ad", ".zarr"):
        found = (ad.read_zarr if path.suffix == ".zarr" else ad.read_h5ad)(path)
        assert np.isfinite(found.obsm["X_ipar"]).all()
        return int(found.uns["ipar"]["prediction"]["random_state"])
    return round(64 * ipar.load(path).blend.global_map)


TARGETS = {
    "save": "saved",
    "fit": "fitted",
    "predict": "out.h5ad",
    "predict_zarr": "out.zarr",
    "store": "slides.store",
}
MANY_FILES = ("predict_zarr", "store")  # which take time


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("job", TARGETS)
def test_kills(writer, job, kill):
    path = writer.home / TARGETS[job]
    takes = max(writer.run(job, 1) for _ in range(2))
    assert number_of(path) == 1
    number, last, moments = 1, 1, range(FIRST, LAST)
    for seed in moments[: len(moments) // 3] if job in MANY_FILES else moments:
        number = 2 + number % 60
        rng = random.Random(f"{job} {kill} {seed}")
        writer.run(job, number, kill, rng.uniform(0, 1.05 * takes))
        found = number_of(path)
        assert found in (last, number), f"seed {seed}"
        last = found
    writer.run(job, 63)
    assert number_of(path) == 63
    assert not [name for name in os.listdir(writer.home) if name.startswith(".")]
