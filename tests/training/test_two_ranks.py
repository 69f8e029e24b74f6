"""Fits on several devices: what is refused, and processes that give the weights of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ipar
from ipar import _engine
from ipar._written import Answer
from tests.training import two_ranks

ROOT = Path(__file__).parents[2]


def fit(slides, **options):
    return ipar.tl.fit_ipalite(slides, "slide", progress=False, **options)


def test_one_device_needs_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    run = _engine.Engine(device="cpu", precision="bf16-mixed").run(None, lambda _, run: run, 3, progress=False)
    assert (run.device.type, run.seed, run.ranks.count, run.fast_dtype) == ("cpu", 3, 1, torch.bfloat16)
    assert _engine.Engine(accelerator="cpu").run(None, lambda _, run: run.device.type, 0, progress=False) == "cpu"


@pytest.mark.parametrize("options", [{"devices": 2}, {"strategy": "ddp"}])
def test_more_than_one_device_without_fabric_names_the_extra(slides, options, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setattr(_engine, "_there", lambda: {"cuda": 0, "cpu": 4})
    with pytest.raises(ImportError, match=r'pip install "ipar\[fabric\]"'):
        fit(slides, accelerator="cpu", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accelerator": "cuda", "devices": 7}, r"devices=7 asks for more.* has \d+ CUDA devices and \d+ CPU cores"),
        ({"accelerator": "cpu", "devices": 3000}, r"devices=3000 asks for more.* CPU cores"),
        ({"device": "cpu", "accelerator": "cuda"}, "contradict each other"),
        ({"device": "cuda:1", "devices": 2}, "is one device"),
        ({"devices": 0}, "devices must"),
        ({"strategy": "fsdp"}, "strategy must be one of"),
        ({"precision": "16-mixed"}, "precision must be one of"),
    ],
)
def test_options_that_cannot_be_are_refused(slides, options, said, monkeypatch):
    monkeypatch.setattr(_engine, "_there", lambda: {"cuda": 0, "cpu": 2})
    with pytest.raises((ValueError, TypeError), match=said):
        fit(slides, **options)
    assert "ipar" not in slides.uns


def test_a_notebook_that_has_used_cuda_cannot_fork(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(_engine, "_there", lambda: {"cuda": 2, "cpu": 2})
    with pytest.raises(RuntimeError, match="restart the kernel"):
        _engine.Engine(accelerator="cuda", devices=2).run(None, lambda *_: None, 0, progress=False)
    with pytest.raises(ValueError, match="strategy='ddp_notebook'"):
        _engine.Engine(accelerator="cpu", devices=2, strategy="ddp").run(None, lambda *_: None, 0, progress=False)


def test_what_a_forked_process_wrote_is_written_here(slides):
    slides.obs["ipar_old"], slides.obsm["gone"] = 1.0, np.zeros((slides.n_obs, 1))
    there = slides.copy()
    answer = Answer()
    with answer.of_writing(there):
        answer.result = "model"
        there.obsm["X_new"] = np.ones((there.n_obs, 2))
        there.obs["ipar_part"], there.uns["ipar"] = 2, {"fit": 1}
        del there.obs["ipar_old"], there.obsm["gone"]
    before = {name: slides.obs[name] for name in slides.obs}
    assert answer.given_to(slides) == "model"
    assert set(slides.obs) == set(before) - {"ipar_old"} | {"ipar_part"}
    assert "gone" not in slides.obsm
    assert slides.obsm["X_new"].sum() == 2 * slides.n_obs
    assert slides.uns["ipar"] == {"fit": 1}
    assert set(answer.written["obsm"]) == {"X_new"}


def script(tmp_path, *arguments, strategy="auto", **environment):
    known = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments, str(ROOT / "tests/training/two_ranks.py"), str(tmp_path)]
    return subprocess.Popen(
        [*command, strategy], env=known | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("launcher", "strategy"),
    [(TORCHRUN, "auto"), ((), "auto"), ((), "ddp_notebook")],
    ids=["torchrun", "script", "notebook"],
)
def test_two_processes_give_the_weights_of_one(tmp_path, launcher, strategy):
    process = script(tmp_path, *launcher, strategy=strategy)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output.decode()
    forked = strategy == "ddp_notebook"  # whose processes end with the fit
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 0 if forked else 1))
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)
    alone = two_ranks.fit(device="cpu")
    assert set(alone) == set(first)
    trained = [name for name in alone if name.startswith((" arrays encoder", " arrays network"))]
    apart = np.concatenate([np.abs(alone[name] - first[name]).ravel() for name in trained])
    assert apart.max() <= 1e-5


@pytest.mark.thorough
def test_ctrl_c_ends_all_processes_and_leaves_no_files(tmp_path):
    process = script(tmp_path, LONG="1")
    began = [tmp_path / "began0", tmp_path / "began1"]  # the second is started by the first
    deadline = time.monotonic() + 120
    while not all(one.exists() for one in began) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    children = _children(process.pid)
    assert children
    process.send_signal(signal.SIGINT)  # to the first alone, as a job's manager does
    process.communicate(timeout=120)
    assert process.returncode != 0
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["began0", "began1"]


def _children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
