"""Predictions on the workers of a Dask cluster are those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import ipar
from ipar._chunks import InMemory
from ipar._client import active_client, check_versions
from ipar._cluster import ahead, on_workers, pool
from ipar._sources import ChunkSize, expression_rows
from ipar.graph.nearest import FaissTransformer

da = pytest.importorskip("dask.array")
dask_config = pytest.importorskip("dask.config")
distributed = pytest.importorskip("distributed")

OPTIONS = {"library_key": "slide", "reference": "a", "progress": False}


def started(n_workers=2):
    """A cluster of processes."""
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )


@pytest.fixture(scope="module")
def client():
    with started() as cluster, distributed.Client(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def cells(make_slides):
    """Two slides, larger than the sets of the training."""
    return make_slides(("d", "e"), n_cells=700, seed=1)


@pytest.fixture(scope="module")
def expected(fitted, cells):
    """What one process predicts, whether there is a client or not."""
    found = cells.copy()
    with dask_config.set(scheduler="synchronous"), warnings.catch_warnings(action="ignore"):
        ipar.tl.predict_coords(found, fitted.model, **OPTIONS)
    return found


def check_same(found, expected):
    for slot in ("obsm", "obs", "obsp"):
        one, other = getattr(found, slot), getattr(expected, slot)
        assert set(one) == set(other)
        for key in [key for key in other if "ipar" in key]:
            values = [x.toarray() if sparse.issparse(x) else np.asarray(x) for x in (one[key], other[key])]
            np.testing.assert_allclose(*values, rtol=1e-6, atol=1e-6, err_msg=key)
    assert np.array_equal(found.obsm["X_ipar"], expected.obsm["X_ipar"])


def seen_by(client):
    """Names of tasks as the dashboard shows them, and the tasks that the scheduler still has."""
    return client.run_on_scheduler(
        lambda dask_scheduler: (set(dask_scheduler.task_prefixes), list(dask_scheduler.tasks))
    )


def in_memory(adata, _):
    return adata


def in_dask(adata, _):
    adata.X = da.from_array(adata.X.toarray(), chunks=(400, -1)).map_blocks(sparse.csr_matrix)
    return adata


def backed(adata, path):
    adata.write_h5ad(path / "cells.h5ad")
    return ad.read_h5ad(path / "cells.h5ad", backed="r")


def lazy(adata, path):
    adata.write_h5ad(path / "cells.h5ad")
    return ad.experimental.read_lazy(path / "cells.h5ad")


@pytest.mark.parametrize("form", [in_memory, in_dask, backed, pytest.param(lazy, marks=pytest.mark.thorough)])
def test_two_workers_give_the_prediction_of_one_process(client, fitted, cells, expected, tmp_path, form):
    with warnings.catch_warnings(action="ignore"):
        given = form(cells.copy(), tmp_path)
        ipar.tl.predict_coords(given, fitted.model, **OPTIONS)
    check_same(given, expected)
    names, left = seen_by(client)
    assert {"ipar-embed", "ipar-consensus", "ipar-sharpen", "ipar-shared"} <= names
    assert ("ipar-survey" in names) or form is in_memory  # workers read what is stored
    assert not [key for key in left if key.startswith("ipar")]
    if given.isbacked:
        given.file.close()


@pytest.mark.parametrize("form", ["dask", "sparse", "dense", "open for writing"])
def test_passes_over_chunks_on_workers_are_those_of_the_matrix(client, tmp_path, form):
    matrix = sparse.random(500, 30, 0.3, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    adata, rng = ad.AnnData(matrix), np.random.default_rng(1)
    if form == "dask":
        adata.X = da.from_array(matrix.toarray(), chunks=(60, 11))
    else:
        adata.X = matrix.toarray() if form == "dense" else matrix
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r+" if form == "open for writing" else "r")
    own, some, axes = (
        np.sort(rng.permutation(500)[:300]),
        rng.permutation(300)[:50],
        rng.random((30, 3), dtype=np.float32),
    )
    codes = rng.integers(0, 3, 300)
    expected = InMemory(matrix[own])
    with on_workers():
        rows = expression_rows(adata, None, ChunkSize(most_values=100 * 30 if form != "sparse" else 900))
        rows = rows.map(lambda chunk, _: chunk).select(own)
        assert np.array_equal(rows.dot(axes), expected.dot(axes))
        assert np.array_equal(rows.take(some).toarray(), expected.take(some).toarray())
        for name in ("keys", "sizes"):
            assert np.array_equal(getattr(rows.survey, name), getattr(expected.survey, name))
        assert rows.survey.largest == expected.survey.largest
        assert np.array_equal(rows.mean, expected.mean)
        assert np.array_equal(rows.means_of(codes, 3), expected.means_of(codes, 3))
        heavy = list(rows.each("test", lambda numbers, chunk: (numbers, chunk @ np.ones(30)), heavy=True))
    assert np.array_equal(np.concatenate([numbers for _, (numbers, _) in heavy]), np.arange(300))
    np.testing.assert_allclose(np.concatenate([sums for _, (_, sums) in heavy]), matrix[own] @ np.ones(30), rtol=1e-6)
    if adata.isbacked:
        adata.file.close()


@pytest.mark.parametrize("exact_max", [100, 10_000])
def test_workers_find_the_same_neighbours(client, exact_max):
    x = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    search = FaissTransformer(5, exact_max=exact_max)
    expected = search.nearest(x, n_rows=700)
    with on_workers():
        found = search.nearest(x, n_rows=700)
    assert np.array_equal(found.index, expected.index)
    assert np.array_equal(found.distance, expected.distance)


def test_workers_with_another_version_are_named(client, fitted, query, unchanged, tmp_path):
    home = tmp_path / "ipar-0.0.9.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: ipar\nVersion: 0.0.9\n")
    foreign, fine = client.scheduler_info()["workers"]
    where, changes = str(tmp_path), unchanged(query)
    client.run(lambda: sys.path.insert(0, where), workers=[foreign])
    try:
        with pytest.raises(
            RuntimeError, match=f"need ipar {ipar.__version__}.*{foreign} has 0.0.9.*start them"
        ) as told:
            ipar.tl.predict_coords(query, fitted.model, progress=False)
    finally:
        client.run(lambda: sys.path.remove(where), workers=[foreign])
    assert fine not in str(told.value)
    assert not changes()


def test_workers_without_ipar_are_named_and_builds_do_not_matter():
    wanted = {"ipar": "1.0", "torch": "2.6.0"}
    fine = {"tcp://a": "2.6.0+cpu", "tcp://b": "2.6.0+cu124"}
    check_versions(wanted, {"ipar": {"tcp://a": "1.0", "tcp://b": "1.0"}, "torch": fine})
    lacking = {f"tcp://{i}": ModuleNotFoundError("ipar") for i in range(7)}
    with pytest.raises(
        RuntimeError, match=r"tcp://0 has none, .*tcp://4 has none, and 2 more differ: install ipar==1\.0"
    ):
        check_versions(wanted, {"ipar": lacking, "torch": fine})


def test_only_the_client_of_the_context_is_used(client):
    assert active_client() is client
    with dask_config.set(scheduler="threads"):
        assert active_client() is None
    assert client.submit(lambda: active_client() is None).result()  # a task does not wait for tasks
    with on_workers():
        workers = pool()
        with on_workers():
            assert pool() is workers
    assert pool().here


def test_an_error_cancels_what_is_under_way(client):
    def fail():
        with on_workers():
            next(pool().map("test", lambda seconds: time.sleep(seconds) or 1 / (seconds - 1), [1, *[0.2] * 20]))

    with pytest.raises(ZeroDivisionError):
        fail()
    deadline = time.monotonic() + 5
    while left := seen_by(client)[1]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_items_are_taken_ahead():
    taken = []
    items = ahead((taken.append(i) or i for i in range(4)), 2)
    assert taken == [0, 1]
    assert [next(items), next(items)] == [0, 1]
    assert taken == [0, 1, 2, 3]
    assert list(items) == [2, 3]


@pytest.fixture(scope="module")
def many(make_slides):
    """Cells that take some seconds."""
    return make_slides(("d",), n_cells=12_000, seed=1)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("n_workers", [1, 2])
def test_work_of_a_killed_worker_is_done_again(fitted, many, n_workers):
    one = many.copy()
    ipar.tl.predict_coords(one, fitted.model, progress=False)
    killed = []
    with started(n_workers) as cluster, distributed.Client(cluster) as own:

        def kill():
            while "ipar-consensus" not in seen_by(own)[0]:
                time.sleep(0.01)
            time.sleep(0.3)
            killed.extend(list(own.run(os.getpid).values())[:1])
            os.kill(killed[0], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        other = many.copy()
        ipar.tl.predict_coords(other, fitted.model, progress=False)
        thread.join()
        assert killed[0] not in own.run(os.getpid).values()
    check_same(other, one)


SCRIPT = """
import sys, threading, warnings
import anndata as ad
from distributed import Client, LocalCluster
import ipar
from ipar._cli import main

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=sys.argv[1]) as cluster:
        with Client(cluster) as client:
            seen = lambda: client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
            def tell():
                while not any("ipar-consensus" in key for key in seen()):
                    pass
                print("working", *client.run(__import__("os").getpid).values(), flush=True)
            threading.Thread(target=tell, daemon=True).start()
            if sys.argv[2] == "command":
                sys.exit(main(["predict", "cells.h5ad", "--model", "model", "-o", "out.h5ad"]))
            cells = ad.read_h5ad("cells.h5ad")
            try:
                ipar.tl.predict_coords(cells, ipar.load("model"), progress=False)
            except KeyboardInterrupt:
                import time
                time.sleep(2)
                print("left", list(cells.obs), sorted(cells.obsm), list(cells.uns), list(cells.obsp), seen(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize(("what", "how"), [("call", "SIGINT"), ("command", "SIGINT"), ("command", "SIGKILL")])
def test_a_client_that_ends_leaves_nothing(fitted, many, tmp_path, what, how):
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    fitted.model.save(home / "model")
    many.write_h5ad(home / "cells.h5ad")
    (home / "script.py").write_text(SCRIPT)
    before = sorted(home.rglob("*"))
    command = [sys.executable, "script.py", str(scratch), what]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        started = next(line for line in process.stdout if line.startswith("working"))
        workers = [int(pid) for pid in started.split()[1:]]
        os.kill(process.pid, getattr(signal, how))
        said = process.stdout.read()
        process.wait(60)
    assert len(workers) == 2
    if what == "call":
        assert "left ['slide'] ['X_other', 'spatial'] [] [] []" in said
    else:
        assert process.returncode != 0
    assert sorted(home.rglob("*")) == before
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline, "workers run on"
        time.sleep(0.1)
