"""The command line in this process, on tiny files."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest

import ipar
from ipar._cli import main
from ipar._cli._files import write


@pytest.fixture(autouse=True)
def _restored():
    """The command line may set up logging and warnings, as it has the process to itself."""
    root, own = logging.getLogger(), logging.getLogger("ipar")
    handlers, levels = root.handlers[:], (root.level, own.level)
    with warnings.catch_warnings():
        yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture
def files(fitted, tmp_path):
    """A model's directory and the h5ad of an unseen slide."""
    fitted.model.save(tmp_path / "model")
    fitted.query.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path


@pytest.fixture
def quick_fit(monkeypatch, settings):
    """Training as small as the slides; gives the options that the command passed on."""
    passed, original = {}, ipar.tl.fit_ipalite

    def fit(adata, library_key, recipe, **options):
        passed.update(options, library_key=library_key, inputs=recipe.embed.inputs)
        small = settings.fit["recipe"]
        small = replace(
            small,
            embed=replace(small.embed, inputs=recipe.embed.inputs),
            network=replace(small.network, refit=False),
        )
        return original(adata, library_key, **{**settings.fit, "max_epochs": 1, **options, "recipe": small})

    monkeypatch.setattr(ipar.tl, "fit_ipalite", fit)
    return passed


def fails(capsys, *arguments):
    """Run a command that cannot work; gives what it said."""
    assert main([str(one) for one in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.strip().splitlines()[-1]
    assert last.startswith(f"ipar {arguments[0]}: ")
    return last


@pytest.mark.parametrize("localisable", [True, False])
def test_fit_predict_evaluate(make_slides, query, tmp_path, quick_fit, capsys, localisable):
    make_slides(localisable=localisable).write_h5ad(tmp_path / "slides.h5ad")
    query.write_h5ad(tmp_path / "cells.h5ad")
    slides, cells, model, out = (tmp_path / name for name in ("slides.h5ad", "cells.h5ad", "model", "deep/placed.h5ad"))
    options = ["--inputs", "pca", "--config", "d7", "--seed", "3", "--no-flow", "--force", "--quiet"]
    assert main(["fit", str(slides), "--model", str(model), *options]) == 0
    said = capsys.readouterr()
    assert f"model: {model}" in said.out
    verdict = "yes" if localisable else "NO"
    figures = r"\(on held-out slides: \d+% of positions explained, distance Spearman -?0\.\d\d, candidate recall"
    assert re.match(f"localisable: {verdict} {figures}", said.out)
    assert ("warning: This tissue cannot be localised" in said.err) is not localisable
    assert (quick_fit["random_state"], quick_fit["inputs"], quick_fit["progress"]) == (3, "pca", False)
    assert (quick_fit["flow"], quick_fit["force"]) == (False, True)
    assert ipar.load(model).network.net.config.geometry == "clamped"  # of d7
    assert (quick_fit["library_key"], quick_fit["spatial_key"]) == ("slide", "spatial")

    assert main(["predict", str(cells), "--model", str(model), "-o", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == f"120 cells placed: obsm['X_ipar'] in {out}\n"
    assert ("these coordinates mean nothing" in said.err) is not localisable
    with warnings.catch_warnings(action="ignore"):
        ipar.tl.predict_coords(query, ipar.load(model), progress=False)
    assert np.array_equal(ad.read_h5ad(out).obsm["X_ipar"], query.obsm["X_ipar"])

    assert main(["evaluate", str(out), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["all"]
    expected = ipar.metrics.evaluate(query.obsm["spatial"], query.obsm["X_ipar"])
    assert scores.keys() == expected.keys()
    assert scores["luna_spearman"] == pytest.approx(expected["luna_spearman"])


def test_options_of_predict_reach_the_prediction(files, fitted):
    fitted.train.write_h5ad(files / "train.h5ad")
    arguments = ["--library-key", "slide", "--n-rounds", "2", "--seed", "5", "--quiet", "--no-sharpen"]
    out = files / "placed.h5ad"
    assert (
        main(["predict", str(files / "train.h5ad"), "--model", str(files / "model"), "-o", str(out), *arguments]) == 0
    )
    placed, train = ad.read_h5ad(out), fitted.train.copy()
    ipar.tl.predict_coords(
        train, fitted.model, library_key="slide", n_rounds=2, sharpen=False, random_state=5, progress=False
    )
    assert np.array_equal(placed.obsm["X_ipar"], train.obsm["X_ipar"])


@pytest.fixture
def placed(fitted, tmp_path):
    """Two slides with true and predicted coordinates, in a file."""
    adata = fitted.train[fitted.train.obs["slide"] != "c"].copy()
    adata.obsm["X_ipar"] = adata.obsm["spatial"] + np.random.default_rng(0).normal(scale=60, size=(240, 2))
    adata.write_h5ad(tmp_path / "placed.h5ad")
    return tmp_path / "placed.h5ad", adata


def test_evaluate_prints_a_table_or_json_by_slide(placed, capsys):
    path, adata = placed
    assert main(["evaluate", str(path), "--library-key", "slide", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = ipar.metrics.evaluate_slides(adata.obsm["spatial"], adata.obsm["X_ipar"], adata.obs["slide"])
    assert list(found) == ["a", "b", "mean"]
    assert found["b"] == pytest.approx(dict(expected["b"]))
    assert main(["evaluate", str(path), "--library-key", "slide"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["a", "b", "mean"]
    rows = {line.split()[0]: [float(value) for value in line.split()[1:]] for line in table[1:]}
    assert rows.keys() == found["a"].keys()
    assert rows["stress1"] == [pytest.approx(found[name]["stress1"], abs=5e-4) for name in ("a", "b", "mean")]


def test_evaluate_writes_scores_that_are_not_there_as_null(placed, capsys):
    path, adata = placed
    adata[:30].copy().write_h5ad(path)  # too few for 50 neighbours
    assert main(["evaluate", str(path), "--json"]) == 0

    def never(text):
        raise AssertionError(text)

    scores = json.loads(capsys.readouterr().out, parse_constant=never)["all"]
    assert scores["knn_hit_50"] is None
    assert scores["knn_hit_10"] > 0


def test_evaluate_reads_other_keys(placed, capsys):
    path, adata = placed
    adata.obsm["truth"], adata.obsm["guess"] = adata.obsm["spatial"], adata.obsm["spatial"] * 2
    adata.write_h5ad(path)
    assert main(["evaluate", str(path), "--spatial-key", "truth", "--use-rep", "guess", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["luna_spearman"] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "hdf5", "directory", "missing"])
@pytest.mark.parametrize("command", ["fit", "predict", "evaluate"])
def test_an_h5ad_that_is_not_one(files, capsys, kind, command):
    path = files / "other.h5ad"
    if kind == "text":
        path.write_text("cell,x,y\n1,2,3\n")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes((files / "cells.h5ad").read_bytes()[:4000])
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["numbers"] = np.arange(3)
    elif kind == "directory":
        path.mkdir()
    options = {"fit": ["--model", files / "new"], "predict": ["--model", files / "model", "-o", files / "out.h5ad"]}
    said = fails(capsys, command, path, *options.get(command, []))
    assert str(path) in said
    assert ("no such file" if kind in ("directory", "missing") else "is not an h5ad file that anndata can read") in said
    assert not (files / "out.h5ad").exists()
    assert not (files / "new").exists()


def test_a_model_that_is_not_one(files, capsys):
    out = ["-o", files / "out.h5ad"]
    assert "No ipar model at" in fails(capsys, "predict", files / "cells.h5ad", "--model", files / "none", *out)
    weights = files / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "truncated" in fails(capsys, "predict", files / "cells.h5ad", "--model", files / "model", *out)
    assert not (files / "out.h5ad").exists()


@pytest.mark.filterwarnings("default:.*names are not unique:UserWarning")  # anndata's, as it reads the file
def test_training_input_that_is_not_usable(bad_training, tmp_path, capsys):
    adata = bad_training.adata
    if "two slides of one name" in bad_training.remedy:
        pytest.skip("a column of a file holds no numbers beside text")
    adata.write_h5ad(tmp_path / "slides.h5ad")
    named = ("--library-key", "slide") if "slide" not in adata.obs else ()  # else all cells would be one section
    said = fails(capsys, "fit", tmp_path / "slides.h5ad", "--model", tmp_path / "model", "--quiet", *named)
    assert re.search(bad_training.remedy, said)
    assert not (tmp_path / "model").exists()


def test_columns_and_keys_that_are_missing_are_named(files, placed, capsys):
    path, _ = placed
    assert "obs has no column 'batch'" in fails(capsys, "evaluate", path, "--library-key", "batch")
    assert "--spatial-key and --use-rep" in fails(capsys, "evaluate", path, "--use-rep", "X_none")
    said = fails(capsys, "evaluate", files / "cells.h5ad")
    assert "obsm has no 'X_ipar'" in said
    predict = ["predict", files / "cells.h5ad", "--model", files / "model", "-o", files / "out.h5ad"]
    assert "no column 'batch'" in fails(capsys, *predict, "--library-key", "batch")
    assert "adata.layers has no 'raw', found ['counts']" in fails(capsys, *predict, "--layer", "raw")
    assert "Device 'abacus' is not available" in fails(capsys, *predict, "--device", "abacus")


def test_warnings_go_to_stderr_in_one_line(files, capsys):
    adata = ad.read_h5ad(files / "cells.h5ad")
    adata.X = adata.layers["counts"]
    adata.write_h5ad(files / "counts.h5ad")
    arguments = ["predict", files / "counts.h5ad", "--model", files / "model", "-o", files / "out.h5ad", "--quiet"]
    assert main([str(one) for one in arguments]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: Expression looks like raw counts")
    assert ".py:" not in said.err


@pytest.mark.parametrize(
    "arguments", [[], ["place"], ["fit"], ["predict", "x.h5ad"], ["fit", "x", "--model", "y", "--inputs", "z"]]
)
def test_wrong_usage_exits_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: ipar" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"ipar {ipar.__version__}\n"


def test_ctrl_c_writes_nothing(files, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ipar.tl, "predict_coords", interrupted)
    out = files / "out.h5ad"
    assert main(["predict", str(files / "cells.h5ad"), "--model", str(files / "model"), "-o", str(out)]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["while writing", "at the very end"])
def test_an_interrupted_write_leaves_the_old_file(fitted, tmp_path, monkeypatch, error, where):
    path = tmp_path / "cells.h5ad"
    write(fitted.query, path)
    before = path.read_bytes()

    def half_written(target, _):
        with target.open("wb") as file:
            file.write(b"half a fi")
        raise error

    def never(*_):
        raise error

    with monkeypatch.context() as patch:
        if where == "while writing":
            patch.setattr(Path, "write_bytes", half_written)
        else:
            patch.setattr(os, "replace", never)
        with pytest.raises(error):
            write(fitted.train, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["cells.h5ad"]
    write(fitted.train, path)
    assert ad.read_h5ad(path).n_obs == 360
    assert (path.stat().st_mode & 0o777) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["cells.h5ad"]


def test_the_output_may_be_the_input(files):
    path = str(files / "cells.h5ad")
    assert main(["predict", path, "--model", str(files / "model"), "-o", path, "--quiet"]) == 0
    assert ad.read_h5ad(path).obsm["X_ipar"].shape == (120, 2)


def test_the_module_runs():
    ran = subprocess.run([sys.executable, "-m", "ipar", "place"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "usage: ipar" in ran.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ipar pre", {"predict"}),
        ("ipar fit --q", {"--quality", "--quiet"}),
        ("ipar fit s.h5ad --quality ", {"fast", "default", "best"}),
        ("ipar evaluate --jsonx", set()),
    ],
)
def test_a_shell_completes_commands_options_and_choices(line, expected, tmp_path):
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    environment = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-m", "ipar"], env=environment, timeout=60, check=False)
    assert done.returncode == 0
    found = {name.strip() for name in answer.read_text().split("\n")}
    assert (found - {""} == expected) if not line.endswith(" ") else (found >= expected)
