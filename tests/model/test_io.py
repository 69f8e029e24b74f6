from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ipar
from ipar import _files
from ipar.model import Blend, GeometryEncoder, IPALite, Sharpening
from ipar.model import io as _io
from ipar.nn import IPALiteNet


@pytest.fixture
def saved(model, tmp_path):
    """A model's directory."""
    model.save(tmp_path / "liver")
    return tmp_path / "liver"


def coords(model, query):
    return ipar.tl.predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder, change, *, sign=False):
    """Change the settings by hand; with a new checksum, if signed."""
    path = folder / "config.json"
    head = json.loads(path.read_text())
    change(head)
    if sign:
        head["config_sha256"] = _io._digest(_io._canonical(head["config"]))
    path.write_text(json.dumps(head))


def test_a_saved_model_predicts_the_same(saved, model, query, global_random_state):
    loaded = ipar.load(saved)
    assert np.array_equal(coords(loaded, query), coords(model, query))
    assert loaded.record == model.record
    assert (loaded.network.n_neighbors, loaded.network.plan) == (model.network.n_neighbors, model.network.plan)
    assert (loaded.blend, loaded.sharpening) == (model.blend, model.sharpening)
    assert loaded.network.net.config == model.network.net.config
    assert not loaded.network.net.training
    assert repr(loaded) == repr(model)
    assert np.array_equal(coords(ipar.load(str(saved)), query), coords(model, query))


@pytest.mark.parametrize(("norm", "stored"), [("cosine", True), (None, False)])
def test_a_model_of_an_earlier_version_keeps_its_predictions(model, query, tmp_path, norm, stored):
    torch.manual_seed(0)
    net = IPALiteNet(replace(model.network.net.config, qk_norm=norm))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    own = replace(model, network=replace(model.network, net=net.eval()))
    own.save(tmp_path / "model")
    edit(tmp_path / "model", lambda head: head["config"]["network"]["net"].update(qk_norm=stored), sign=True)
    assert np.array_equal(coords(ipar.load(tmp_path / "model"), query), coords(own, query))


def test_the_directory_holds_settings_genes_and_weights_and_no_pickle(saved, model):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    head = json.loads((saved / "config.json").read_text())
    assert head["format"] == "ipar.IPALite"
    assert head["ipar_version"] == ipar.__version__
    assert head["config"]["encoder"]["genes"] == model.encoder.genes.tolist()
    assert sorted(path.name for path in saved.parent.iterdir()) == ["liver"]  # no staging is left
    assert (saved.stat().st_mode & 0o777) == 0o755


def test_saving_twice_gives_the_same_bytes(saved, model, tmp_path):
    model.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)
    ipar.load(saved).save(tmp_path / "loaded")
    assert contents(tmp_path / "loaded") == contents(saved)


@pytest.mark.parametrize("suffix", ["pca", "genes", "both"])
def test_every_kind_of_encoder_survives(slides, query, settings, suffix):
    ipar.pp.embed(slides, "slide", **settings.hasty | {"inputs": suffix})
    encoder = ipar.pp._embed.stored_encoder(slides)
    args = (query.X, query.var_names, pd.Categorical(["d"] * 120))
    found = GeometryEncoder.from_state(*encoder.state())
    assert np.array_equal(found.transform(*args), encoder.transform(*args))
    assert found.record["inputs"] == suffix


def test_state_is_plain(model):
    config, arrays = model.state()
    assert json.loads(json.dumps(config)) == json.loads(json.dumps(config, sort_keys=True))
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    assert not any("/" in name for name in arrays)
    again = IPALite.from_state(json.loads(json.dumps(config)), arrays)
    assert again.state()[0] == config


def test_weights_of_a_loaded_model_are_its_own(model):
    config, arrays = model.state()
    arrays = {name: value.copy() for name, value in arrays.items()}
    again = IPALite.from_state(config, arrays)
    for value in arrays.values():
        value[...] = 0
    assert any(p.detach().any() for p in again.network.net.parameters())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_named(saved, name, share):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}.* truncated .*([Ss]ave|Copy)"):
        ipar.load(saved)


def test_missing_weights_are_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors.*Copy the whole directory, or save again"):
        ipar.load(saved)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty directory", "weights only"])
def test_no_model_at_all(saved, tmp_path, kind):
    path = tmp_path / "other"
    if kind == "file":
        path.write_text("{}")
    elif kind == "empty directory":
        path.mkdir()
    elif kind == "weights only":
        path = saved
        (saved / "config.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"No ipar model at {re.escape(str(path))}: expected a directory with config"
    ):
        ipar.load(path)


@pytest.mark.parametrize("change", [{"format_version": 1}, {"format": "ipar.IGA"}, {"format": "ipar.IPA3"}])
def test_another_version_is_named(saved, change):
    edit(saved, lambda head: head.update(change))
    version = re.escape(ipar.__version__)
    with pytest.raises(
        ValueError,
        match=rf"reads ipar\.IPALite version {IPALite.version} and ipar\.IGA .*: load it with ipar {version}, or fit",
    ):
        ipar.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head["config"]["network"].update(n_neighbors=7),
        lambda head: head["config"]["encoder"]["genes"].reverse(),
        lambda head: head["config"]["record"]["localisability"].update(localisable=True, recall_ratio=99.0),
        lambda head: head.pop("config"),
        lambda head: head.pop("config_sha256"),
    ],
    ids=["setting", "genes", "verdict", "no settings", "no checksum"],
)
def test_settings_changed_by_hand_are_refused(saved, change):
    edit(saved, change)
    with pytest.raises(ValueError, match=r"was changed after it was written.*Save the model again"):
        ipar.load(saved)


def test_weights_changed_by_hand_are_refused(saved):
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"was changed: its checksum differs.*Copy or save it again"):
        ipar.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["network"]["net"].update(d_state=24),
        lambda config: config["network"]["net"].update(colour="red"),
        lambda config: config["network"].pop("plan"),
        lambda config: config["encoder"]["parts"].append(config["encoder"]["parts"][0]),
    ],
    ids=["another width", "unknown setting", "missing setting", "part without weights"],
)
def test_settings_that_fit_no_weights_are_refused(saved, change):
    edit(saved, lambda head: change(head["config"]), sign=True)
    with pytest.raises(ValueError, match="(?s)is not complete .*save it again from the fitted model"):
        ipar.load(saved)


def test_json_of_something_else_is_refused(saved):
    for text in ("[1, 2]", '"model"', "{}", "\x00\xff"):
        (saved / "config.json").write_text(text)
        with pytest.raises(ValueError, match="truncated or not of an ipar model"):
            ipar.load(saved)


def test_a_model_replaces_a_model(saved, model, query):
    replace(model, blend=Blend(0.25)).save(saved)
    assert ipar.load(saved).blend == Blend(0.25)
    (saved.parent / "empty").mkdir()
    model.save(saved.parent / "empty")
    assert ipar.load(saved.parent / "empty").blend == model.blend
    model.save(saved.parent / "deep" / "down")
    assert np.array_equal(coords(ipar.load(saved.parent / "deep" / "down"), query), coords(model, query))


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_nothing_but_a_model_is_replaced(model, tmp_path, kind):
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("years of work")
    else:
        path.mkdir()
        (path / "chapter1").write_text("years of work")
    with pytest.raises(FileExistsError, match="exists and is not a model's directory: choose another path"):
        model.save(path)
    assert (path if kind == "file" else path / "chapter1").read_text() == "years of work"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["thesis"]


class Interruption(BaseException):
    """Ctrl-C or a full disk, at any place."""


def half_written(name):
    """A write of a file of this name that is interrupted half-way."""
    write = Path.write_bytes

    def interrupted(path, content):
        write(path, content[: len(content) // 2 if path.name == name else len(content)])
        if path.name == name:
            raise Interruption

    return interrupted


@pytest.mark.parametrize("interrupted", ["model.safetensors", "config.json", "exchange", "moving out", "moving in"])
def test_an_interrupted_save_leaves_the_old_model(saved, model, monkeypatch, interrupted):
    before, moves = contents(saved), iter(range(10))
    move = os.replace

    def replaced(source, target):
        if next(moves) == (0 if interrupted == "moving out" else 1):
            raise Interruption
        move(source, target)

    def never(*_):
        raise Interruption

    with monkeypatch.context() as patch:
        if interrupted == "exchange":
            patch.setattr(_files, "_exchanged", never)
        elif "moving" in interrupted:  # where the system exchanges no directories
            patch.setattr(_files, "_exchanged", lambda *_: False)
            patch.setattr(os, "replace", replaced)
        else:
            patch.setattr(Path, "write_bytes", half_written(interrupted))
        with pytest.raises(Interruption):
            replace(model, blend=Blend(0.125)).save(saved)
    assert contents(saved) == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["liver"]  # nothing half-written lies about
    assert ipar.load(saved).blend == model.blend


def test_an_interrupted_first_save_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", half_written("model.safetensors"))
    with pytest.raises(Interruption):
        model.save(tmp_path / "liver")
    assert list(tmp_path.iterdir()) == []


def test_the_weight_of_the_set_encoder_and_of_genes_are_kept(model):
    genes = np.random.default_rng(0).uniform(0.2, 2.0, len(model.encoder.genes)).astype(np.float32)
    for scale in (genes, None):
        config, arrays = replace(model.encoder, set_encoder_weight=2.0, gene_scale=scale).state()
        back = GeometryEncoder.from_state(json.loads(json.dumps(config)), arrays)
        assert back.set_encoder_weight == 2.0
        assert back.gene_scale is None if scale is None else np.array_equal(back.gene_scale, scale)


@pytest.mark.parametrize("without", ["flow", "sharpening", "uncertainty"])
def test_parts_that_a_model_can_do_without(model, generated, without):
    whole = replace(model, flow=generated.model.flow, sharpening=Sharpening(hold=0.3))
    back = IPALite.from_state(*replace(whole, **{without: None}).state())
    assert getattr(back, without) is None
    others = {"flow", "sharpening", "uncertainty"} - {without}
    assert all(getattr(back, name) is not None for name in others)


def test_loading_in_several_threads_leaves_the_random_state(model, tmp_path):
    model.save(tmp_path / "model")
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: ipar.load(tmp_path / "model"), range(12)))
    assert torch.equal(before, torch.get_rng_state())
