"""Mutated models: each loads and predicts the same, or is refused with a message that names the file, in seconds.

``IPAR_MATRIX_SEEDS=1000:2000`` runs other seeds than those of the suite.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ipar
from ipar.model import checks, io
from ipar.model.loading import plain_model

FIRST, LAST = map(int, os.environ.get("IPAR_MATRIX_SEEDS", "0:200").split(":"))
SECONDS = 5.0
VALUES = [
    *(-1, 0, 1, 2, 7, 1000, 10**6, 2**31, 2**63, 10**30, -(10**9)),
    *(-0.5, 0.0, 1e-300, 1e9, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "x", "🧬", "a\0b", [], {}, [1] * 5, ["a"], [[]], {"a": 1}, None, True, False),
]


@pytest.fixture(scope="module")
def rich(make_slides, settings):
    """A model that has every part, its directory's files, and cells to place."""
    train, query = make_slides(), make_slides(("d",), n_cells=60, seed=1)
    ipar.pp.embed(train, "slide", **settings.hasty | {"inputs": "both"})
    model = ipar.tl.fit_ipalite(train, "slide", **settings.fit | {"flow": True, "max_epochs": 1})
    return model, ipar.tl.adapt(model, query), query


@pytest.fixture(scope="module")
def saved(rich, tmp_path_factory):
    """Directories of the model, and of another one, and what the first one predicts once it is read."""
    model, other, query = rich
    home = tmp_path_factory.mktemp("models")
    model.save(home / "model")
    other.save(home / "other")
    return home, query, predicted(ipar.load(home / "model"), query)


def predicted(model, query):
    with warnings.catch_warnings(action="ignore"):
        placed = ipar.tl.predict_coords(query, model, reference="a", copy=True, progress=False, device="cpu")
    kept = [placed.obsm["X_ipar"], placed.obsm["X_ipar_reference"]]
    return [*kept, placed.obs["ipar_uncertainty"].to_numpy(), placed.obs["ipar_belongs"].to_numpy()]


def places(tree, path=()):
    """Paths to all values of nested settings; of long lists, to the first two items."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:2]) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def change_settings(folder, rng):
    """Delete, replace, double or add a value, mostly with a new checksum, as a hostile hand would."""
    file = folder / "config.json"
    head = json.loads(file.read_text())
    path = rng.choice([one for one in places(head) if rng.random() < 0.1 or one[0] != "arrays"])
    parent, key = at(head, path[:-1]), path[-1]
    how = rng.choice(["delete", "value", "value", "value", "double", "add"])
    if how == "delete":
        del parent[key]
    elif how == "double" and isinstance(parent, list):
        parent.append(parent[key])
    elif how == "add" and isinstance(parent, dict):
        parent["colour"] = rng.choice(VALUES)
    else:
        parent[key] = rng.choice(VALUES)
    signed = rng.random() < 0.8
    if signed and "config" in head:
        head["config_sha256"] = io._digest(io._canonical(head["config"]))
    file.write_text(json.dumps(head))
    return signed


def change_arrays(folder, rng):
    """Delete, rename, reshape or spoil an array, with a new checksum, and perhaps a new list of arrays."""
    arrays = load_file(folder / "model.safetensors")
    name = rng.choice(sorted(arrays))
    how = rng.choice(["delete", "rename", "reshape", "nan", "infinite", "integers", "empty", "swap"])
    value = np.array(arrays.pop(name))
    if how == "rename":
        arrays[f"{name}2"] = value
    elif how == "reshape":
        arrays[name] = np.concatenate([value.ravel(), value.ravel()[:1]])
    elif how in ("nan", "infinite"):
        spoilt = value.astype(np.float64) if value.dtype.kind != "f" else value
        spoilt.ravel()[rng.randrange(spoilt.size)] = np.nan if how == "nan" else np.inf
        arrays[name] = spoilt
    elif how == "integers":
        arrays[name] = value.astype(np.int64)
    elif how == "empty":
        arrays[name] = np.zeros((0,), dtype=np.float32)
    elif how == "swap":
        other = rng.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], value
    save_file({key: np.asarray(one, order="C") for key, one in arrays.items()}, folder / "model.safetensors")
    head = json.loads((folder / "config.json").read_text())
    head["weights_sha256"] = io._digest((folder / "model.safetensors").read_bytes())
    if rng.random() < 0.3:
        head["arrays"] = checks.contents(arrays)
    (folder / "config.json").write_text(json.dumps(head))
    return True


def change_bytes(folder, rng):
    """Flip bits of a file, or cut it."""
    file = folder / rng.choice(["config.json", "model.safetensors"])
    content = bytearray(file.read_bytes())
    if rng.random() < 0.4:
        content = content[: rng.randrange(len(content))]
    else:
        start = min(len(content), rng.choice([16, 5000, len(content)]))
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(start)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return False


def change_files(folder, rng):
    """Files missing, empty, swapped, of another model, or directories."""
    names = ["config.json", "model.safetensors"]
    one, other = (folder / name for name in rng.sample(names, 2))
    how = rng.choice(["missing", "empty", "swapped", "copied", "other model", "directory", "text"])
    if how == "swapped":
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif how == "copied":
        one.write_bytes(other.read_bytes())
    elif how == "other model":
        one.write_bytes((folder.parent / "other" / one.name).read_bytes())
    else:
        one.unlink()
        if how == "directory":
            one.mkdir()
        elif how != "missing":
            one.write_bytes(b"" if how == "empty" else rng.choice([b"{}", b"[" * 100_000, b"9" * 5000, b'"a', b"null"]))
    return False


CHANGES = [change_settings, change_settings, change_settings, change_arrays, change_bytes, change_files]


@contextmanager
def limit(seconds):
    def late(*_):
        raise AssertionError(f"not finished in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(folder, query, expected, signed):
    """Loads and predicts the same, or at least something finite where the mutation was signed; or says what is wrong."""
    model, refused = None, ""
    try:
        model = ipar.load(folder)
    except (FileNotFoundError, ValueError) as error:
        refused = str(error)
    if model is None:
        assert str(folder) in refused, refused
        assert any(word in refused for word in ("ave", "fit it again", "expected a directory")), refused
        return "refused"
    found = predicted(model, query)
    if signed:
        assert all(np.isfinite(one).all() for one in found)
        return "another model"
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    return "the same"


@pytest.mark.parametrize("block", range(FIRST, LAST, 20))
def test_mutated_directories(saved, tmp_path, block):
    home, query, expected = saved
    for seed in range(block, min(block + 20, LAST)):
        rng, folder = random.Random(seed), home / f"mutated{seed}"
        shutil.copytree(home / "model", folder)
        signed = rng.choice(CHANGES)(folder, rng)
        start = time.monotonic()
        with limit(30):
            try:
                outcome(folder, query, expected, signed)
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
        shutil.rmtree(folder)


PLAIN = {
    "version": (lambda found: found.update(format_version=1), "has format ipar.IPALite version 1, .*fit it again"),
    "no version": (lambda found: found.pop("format_version"), "version unknown, .*fit it again"),
    "format": (lambda found: found.update(format="ipar.IPA3"), "has format ipar.IPA3 version .*fit it again"),
    "settings": (lambda found: found.pop("config"), "not complete .*fit it again"),
    "text": (lambda found: found.update(config="{" * 9), "not complete .*fit it again"),
    "part": (lambda found: change_part(found, "scale"), "part scale is missing.*fit it again"),
    "no arrays": (lambda found: found.pop("arrays"), "not complete .*fit it again"),
    "array": (lambda found: found["arrays"].pop("encoder.gene_scale"), "encoder.gene_scale is missing.*fit it again"),
    "strings": (
        lambda found: found["arrays"].update({"scale.means": np.array(["a"])}),
        "scale.means is .*fit it again",
    ),
    "NaN": (lambda found: spoil(found, "scale.means"), "scale.means has NaN or infinite values.*fit it again"),
    "shape": (lambda found: found["arrays"].update({"scale.means": np.ones(3)}), "scale.means is .*fit it again"),
    "numbers": (lambda found: found.update(arrays=7), "not complete .*fit it again"),
}


def change_part(found, name):
    config = json.loads(found["config"])
    del config[name]
    found["config"] = json.dumps(config)


def spoil(found, name):
    found["arrays"][name] = np.full_like(found["arrays"][name], np.nan)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_model_in_uns_is_told_to_be_broken(rich, kind):
    """As :func:`ipar.load` tells it."""
    model, _, query = rich
    change, said = PLAIN[kind]
    cells, found = query.copy(), plain_model(model)
    found["arrays"] = dict(found["arrays"])
    change(found)
    cells.uns["ipar"] = {"model": found}
    with pytest.raises(ValueError, match=rf"(?s)uns\['ipar'\]\['model'\].*{said}"):
        ipar.tl.predict_coords(cells, progress=False)


@pytest.mark.parametrize("kind", ["array", "strings", "NaN", "settings", "text"])
def test_an_encoder_in_uns_is_told_to_be_broken(slides, settings, kind):
    """What :func:`ipar.pp.embed` left, for a fit."""
    ipar.pp.embed(slides, "slide", **settings.hasty | {"inputs": "both"})
    found = slides.uns["ipar_embed"]["encoder"]
    if kind in ("array", "strings", "NaN"):
        change = {"array": found["arrays"].pop, "strings": lambda name: found["arrays"].update({name: np.array(["a"])})}
        change.get(kind, lambda name: spoil(found, name))("gene_scale")
        said = "array gene_scale .*"
    else:
        PLAIN[kind][0](found)
        said = "not complete"
    with pytest.raises(ValueError, match=rf"(?s)uns\['ipar_embed'\].*{said}.*call ipar.pp.embed again"):
        ipar.tl.fit_ipalite(slides, "slide", **settings.fit)


@pytest.mark.parametrize("found", ["text", 7, [], np.zeros(3), {}])
def test_something_else_in_the_place_of_a_model(rich, found):
    cells = rich[2].copy()
    cells.uns["ipar"] = {"model": found}
    with pytest.raises(ValueError, match=r"uns\['ipar'\]\['model'\] is not complete"):
        ipar.tl.predict_coords(cells, progress=False)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_model_in_uns_survives_a_file(rich, tmp_path, suffix):
    model, _, query = rich
    query = query.copy()
    query.uns["ipar"] = {"model": plain_model(model)}
    getattr(query, f"write_{suffix}")(tmp_path / f"cells.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"cells.{suffix}")
    ipar.tl.predict_coords(again, progress=False)
    assert np.array_equal(again.obsm["X_ipar"], predicted(model, rich[2])[0])


class SpatialData:
    """Stands for the class of another package."""


@pytest.mark.parametrize("model", ["model", Path("model"), {"format": "ipar.IPALite"}, [], SpatialData()])
def test_what_is_no_model_is_told_what_to_pass(rich, model):
    with pytest.raises(TypeError, match=r"model must be .*ipar\.load\(directory\)"):
        ipar.tl.predict_coords(rich[2], model, progress=False)


@pytest.mark.parametrize(("path", "error"), [(None, TypeError), (3, TypeError), ("", ValueError), ("a\0b", ValueError)])
def test_what_is_no_path_is_told(path, error):
    with pytest.raises(error, match="name the model's directory"):
        ipar.load(path)
