"""Files that are read and written: mutated h5ad files, permissions, links, special files, paths, full disks.

``IPAR_MATRIX_SEEDS=1000:1300`` mutates h5ad files by other seeds than those of the suite.
"""

from __future__ import annotations

import errno
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
        how = rng.choice(
            ["delete", "group", "text", "number", "nan", "short", "flat", "encoding", "no encoding", "move"]
        )
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


# permissions


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def report(fitted):
    """Cells whose report can be drawn, and the model."""
    cells = fitted.query.copy()
    ipar.tl.predict_coords(cells, fitted.model, progress=False)
    return cells, fitted.model


def writers(place, report):
    """Every way to write, with the path it writes to."""
    model = ipar.load(place / "model")
    cells = report[0][:10, :10].copy()  # for zarr writes slowly
    return {
        "out.h5ad": lambda path: commands.write(cells, path),
        "out.zarr": lambda path: commands.write(cells, path),
        "saved": lambda path: model.save(path),
        "page.html": lambda path: ipar.pl.report(*report, save=path),
    }


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_new_files_have_what_the_umask_leaves(place, report, mask):
    for name, write in writers(place, report).items():
        with umask(mask):
            write(place / str(mask) / name)
        made = [place / str(mask) / name, *(place / str(mask) / name).rglob("*")]
        assert {mode(path) for path in made if path.is_file()} <= {0o666 & ~mask}
        assert {mode(path) for path in made if path.is_dir()} <= {0o777 & ~mask}


@pytest.mark.parametrize("given", [0o600, 0o664])
def test_files_take_mode_and_owner_of_what_they_replace(place, report, given):
    for name, write in writers(place, report).items():
        path = place / name
        write(path)
        kept = path / "model.safetensors" if name == "saved" else path
        path.chmod(given | 0o111 if path.is_dir() else given)
        if kept.is_file():
            kept.chmod(given)
        if os.geteuid() == 0:
            os.chown(kept, 1234, 1235)
        before = kept.stat()
        write(path)
        assert (kept.stat().st_mode, kept.stat().st_uid, kept.stat().st_gid) == (
            *(before.st_mode, before.st_uid, before.st_gid),
        )
        assert kept.stat().st_ino != before.st_ino


def test_what_is_written_over_private_data_is_never_readable_by_others(place):
    """Not while it is written either."""
    path, seen = place / "private.h5ad", []
    path.write_bytes(b"")
    path.chmod(0o600)
    with umask(0), _files.replaced(path) as staging:
        seen.append(mode(staging))
    (place / "model").chmod(0o700)
    with umask(0), _files.replaced_directory(place / "model", lambda _: True, "a model") as staging:
        seen.append(mode(staging))
    assert seen == [0o600, 0o700]
    assert (mode(path), mode(place / "model")) == (0o600, 0o700)


# links, special files, paths


def test_links_are_followed(place, report):
    for name, write in writers(place, report).items():
        target, link = place / f"target-{name}", place / name
        write(target)
        before = target.stat().st_ino
        link.symlink_to(target.name)
        write(link)
        assert link.is_symlink()
        assert os.readlink(link) == target.name
        assert target.stat().st_ino != before


def test_another_file_system(place, report):
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no second file system to write to")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        for name, write in writers(place, report).items():
            link = place / name
            link.symlink_to(Path(other) / name)
            with pytest.raises(FileNotFoundError, match="is a link to .*, which does not exist: remove the link, or"):
                _files.target_of(link)
            write(Path(other) / name)
            write(link)
            assert link.is_symlink()
        assert sorted(os.listdir(other)) == sorted(writers(place, report))


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL = {
    "pipe": os.mkfifo,
    "socket": socket_at,
    "directory": os.mkdir,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/null"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture
def idle(place, monkeypatch):
    """No work may begin."""

    def never(*_, **__):
        raise AssertionError("work began")

    for name in ("predict_coords", "fit_ipalite", "report"):
        monkeypatch.setattr(ipar.tl, name, never)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_special_files_are_refused_before_any_work(place, capsys, monkeypatch, kind, suffix):
    monkeypatch.chdir(place)  # the name of a socket must be short
    out = Path(f"x{suffix}")
    SPECIAL[kind](out)
    before, names = os.lstat(out), sorted(os.listdir(place))
    works = kind == "directory" and suffix == ".zarr"  # an empty one
    if not works:
        assert predict(place, out) == 2
        assert re.search(rf"ipar predict: {out} (is|exists|cannot)", capsys.readouterr().err)
    if kind != "directory":
        assert run("fit", place / "cells.h5ad", "--model", out) == 2
        assert re.search(rf"ipar fit: {out} (is|exists|cannot)", capsys.readouterr().err)
        with pytest.raises(OSError, match=f"^.*{out} (is|exists|cannot)"):
            ipar.load(place / "model").save(out)
    assert (os.lstat(out).st_ino, os.lstat(out).st_mode) == (before.st_ino, before.st_mode)
    assert sorted(os.listdir(place)) == names


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    "out", [".", "", "  ", "..", "/", "a\0b.h5ad", f"{'n' * 300}.h5ad", "cells.h5ad/out.h5ad", "out.csv"]
)
def test_paths_that_cannot_be_written_are_told_before_any_work(place, capsys, monkeypatch, out):
    monkeypatch.chdir(place)
    names = sorted(os.listdir(place))
    assert run("predict", "cells.h5ad", "--model", "model", "-o", out) == 2
    assert re.search(r"ipar predict: .*: (name|choose|remove|make|give)", capsys.readouterr().err)
    if out != "out.csv":
        assert run("fit", "cells.h5ad", "--model", out) == 2
        assert re.search(r"ipar fit: .*: (name|choose|remove|make)", capsys.readouterr().err)
    assert sorted(os.listdir(place)) == names


@pytest.mark.parametrize("path", [None, 3, b"bytes", ["out.h5ad"]])
def test_what_is_no_path(report, place, path):
    with pytest.raises(TypeError, match="A path must be a str or a pathlib.Path, found .*: name the file to write"):
        ipar.load(place / "model").save(path)
    with pytest.raises(TypeError, match="A path must be"):
        commands.write(report[0], path)


def test_long_names(place, report):
    """Temporary names are shorter than that of the target."""
    for name, write in writers(place, report).items():
        suffix = Path(name).suffix
        for _ in range(2):
            write(place / f"{'n' * (250 - len(suffix))}{suffix}")
    assert len([name for name in os.listdir(place) if len(name) == 250]) == 4


def as_nobody(function):
    """What a function raises for a user without rights."""
    if os.geteuid() != 0:
        return function()
    read, write = os.pipe()
    if not (child := os.fork()):
        said = "nothing"
        try:
            os.setgid(65534)
            os.setuid(65534)
            said = str(function())
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read) as found:
        return found.read()


def raised(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_places_without_permission():
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0o555)
        (folder / "closed").chmod(0o555)
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        (folder / "open" / "out.h5ad").write_bytes(b"")
        (folder / "open" / "out.h5ad").chmod(0o444)
        said = as_nobody(lambda: raised(_files.target_of, folder / "closed" / "deep" / "out.h5ad"))
        assert re.match("PermissionError: .*closed is read-only: choose another path", said)
        said = as_nobody(lambda: raised(_files.target_of, folder / "open" / "out.h5ad"))
        assert re.match("PermissionError: .*is read-only: make it writable", said)


@pytest.mark.parametrize("content", [{"config.json": '{"architectures": ["BERT"]}'}, {"notes.txt": "years"}])
def test_directories_of_others_are_not_replaced(place, content):
    """Nor a model's, if there is more in it."""
    model = ipar.load(place / "model")
    for folder in (place / "other", place / "model"):
        folder.mkdir(exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(text)
        before = {one.name: one.read_bytes() for one in folder.iterdir()}
        with pytest.raises(FileExistsError, match="exists and is not a model's directory: choose another path, or"):
            model.save(folder)
        assert {one.name: one.read_bytes() for one in folder.iterdir()} == before


# formats


def test_zarr_and_h5ad_by_suffix(place):
    cells = ad.read_h5ad(place / "cells.h5ad")
    cells.write_zarr(place / "cells.zarr")
    for source, target in (("cells.h5ad", "out.zarr"), ("cells.zarr", "out.zarr"), ("cells.zarr", "out.h5ad")):
        assert predict(place, place / target, cells=source) == 0
        read = ad.read_zarr if target == "out.zarr" else ad.read_h5ad
        assert np.array_equal(read(place / target).obsm["X_ipar"], cells.obsm["X_ipar"])
    assert run("evaluate", place / "out.zarr") == 0
    assert not [name for name in os.listdir(place) if name.startswith(".")]
    (place / "other.zarr").mkdir()
    (place / "other.zarr" / "notes.txt").write_text("years of work")
    assert predict(place, place / "other.zarr") == 2
    assert (place / "other.zarr" / "notes.txt").read_text() == "years of work"


# readers and remains


def test_a_reader_never_sees_two_models_in_one(place, fitted):
    """A second process saves two models in turn over each other, while this one reads."""
    from ipar.model import Blend

    one, other = ipar.load(place / "model"), ipar.load(place / "model")
    object.__setattr__(other, "blend", Blend(0.125))
    other.network.net.coord_input[0].weight.data += 1
    child = os.fork()
    if not child:
        try:
            while True:
                for model in (one, other):
                    model.save(place / "model")
        finally:
            os._exit(0)
    try:
        found = set()
        for _ in range(60):
            read = ipar.load(place / "model")
            changed = bool((read.network.net.coord_input[0].weight == other.network.net.coord_input[0].weight).all())
            assert read.blend == (other.blend if changed else one.blend)
            found.add(changed)
        assert found == {True, False}
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_remains_of_killed_writes_are_removed_by_the_next(place, fitted):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)  # a process that is no more
    target = place / "model"
    dead, alive = (target.with_name(f"{_files._prefix(target)}{pid}-0123") for pid in (child, os.getpid()))
    old, other = target.with_name(f"{alive.name}-9"), place / ".ipar-other-000000000000-1-0123"
    for path in (dead, alive, old, other):
        shutil.copytree(target, path)
    os.utime(old, (0, 0))
    fitted.model.save(target)
    assert not dead.exists()
    assert not old.exists()
    assert alive.exists()
    assert other.exists()


def test_a_model_that_was_moved_out_comes_back(place, monkeypatch):
    """Where directories cannot be exchanged in one step, and the process is killed between two."""
    target = place / "model"
    child = os.fork()
    if not child:
        monkeypatch.setattr(_files, "_exchanged", lambda *_: False)
        move = os.replace
        monkeypatch.setattr(os, "replace", lambda a, b: (move(a, b), os._exit(0)))
        ipar.load(target).save(target)
    os.waitpid(child, 0)
    assert not target.exists()
    ipar.load(target)
    assert not [name for name in os.listdir(place) if name.startswith(".") and name.endswith("-old")]


# full disks


@contextmanager
def largest_file(size):
    """No file of this process may grow beyond."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("share", [*(pytest.param(one, marks=pytest.mark.thorough) for one in (0.0, 0.7)), 0.3, 0.99])
def test_a_full_disk_leaves_the_old_file_and_says_how_much_is_missing(place, report, share):
    for name, write in writers(place, report).items():
        path = place / name
        write(path)
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        before = {one: one.read_bytes() for one in files}
        with largest_file(int(share * max(map(len, before.values())))):
            with pytest.raises(OSError, match="No space left to write .* needed, .* written, .* are missing") as caught:
                write(path)
        assert caught.value.errno == errno.EFBIG
        assert {one: one.read_bytes() for one in files} == before
        assert not [one for one in os.listdir(place) if one.startswith(".")]


def test_a_full_disk_is_told_before_the_work(place, monkeypatch, capsys):
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert predict(place, place / "out.h5ad") == 2
    assert re.search("are needed, 1.0 kB are free, .* kB are missing. Free space, or", capsys.readouterr().err)
    with pytest.raises(OSError, match="No space to write") as caught:
        ipar.load(place / "model").save(place / "new")
    assert caught.value.errno == errno.ENOSPC
    assert not (place / "new").exists()
