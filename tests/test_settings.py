"""``ipar.settings``: checked, from the environment, for the time being, and heeded by every call."""

from __future__ import annotations

import inspect
import logging
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

import ipar
from ipar._preferences import Settings
from ipar._public import public
from ipar._run import Device, Run
from ipar.training import FlowRecipe, Recipe


@pytest.fixture(autouse=True)
def _restored():
    with ipar.settings.override(**{one.name: getattr(ipar.settings, one.name) for one in fields(Settings)}):
        yield


@public
def heard(device: Device = "auto", random_state: int | np.random.Generator | None = 0, progress: bool = True) -> tuple:
    return device, random_state, progress


@public
def other(name: str = "auto") -> str:
    return name


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("verbosity", 4, ValueError),
        ("verbosity", -1, ValueError),
        ("verbosity", "info", TypeError),
        ("verbosity", True, TypeError),
        ("progress", 1, TypeError),
        ("device", "cuda 0", ValueError),
        ("device", None, TypeError),
        ("random_state", -1, ValueError),
        ("random_state", 2**64, ValueError),
        ("random_state", 0.5, TypeError),
        ("datadir", 3, TypeError),
    ],
)
def test_values_that_are_none_are_refused_and_change_nothing(name, value, error):
    before = getattr(ipar.settings, name)
    with pytest.raises(error, match=rf"ipar\.settings\.{name} must .*found"):
        setattr(ipar.settings, name, value)
    assert getattr(ipar.settings, name) == before


def test_a_name_that_is_none_is_refused():
    with pytest.raises(AttributeError, match=r"no 'verbose', found \['datadir', 'device'"):
        ipar.settings.verbose = 1


def test_override_is_for_the_time_being_and_all_or_nothing():
    before = repr(ipar.settings)
    with ipar.settings.override(device="cpu", verbosity=3) as now:
        assert now is ipar.settings
        assert (now.device, now.verbosity) == ("cpu", 3)
    assert repr(ipar.settings) == before
    with pytest.raises(RuntimeError, match="in between"), ipar.settings.override(progress=False):
        raise RuntimeError("in between")
    with pytest.raises(ValueError, match="verbosity"), ipar.settings.override(progress=False, verbosity=9):
        pass
    assert repr(ipar.settings) == before


def test_calls_follow_the_settings_where_their_arguments_leave_it_open():
    assert heard() == ("auto", 0, True)
    with ipar.settings.override(device="cuda:1", random_state=7, progress=False):
        assert heard() == ("cuda:1", 0, False)
        assert heard("cpu", None, True) == ("cpu", 7, False)
        assert heard(random_state=3)[1] == 3
        assert other() == "auto"  # no device
    assert heard(progress=False, random_state=None) == ("auto", None, False)


def test_every_function_that_takes_a_device_goes_through_the_same_door():
    taking = [
        function
        for module in (ipar.pp, ipar.tl)
        for name in module.__all__
        if inspect.isfunction(function := getattr(module, name)) and "device" in inspect.signature(function).parameters
    ]
    assert len(taking) > 10
    door = heard.__code__  # of the wrapper, which all share
    assert [function.__name__ for function in taking if function.__code__ is not door] == []


def test_a_prediction_uses_the_settings(query, model):
    with ipar.settings.override(random_state=11, progress=False):
        ipar.tl.predict_coords(query, model, random_state=None)
    assert query.uns["ipar"]["prediction"]["random_state"] == 11
    with ipar.settings.override(device="abacus"), pytest.raises(ValueError, match="Device 'abacus' is not available"):
        ipar.tl.predict_coords(query, model, progress=False)


def test_environment():
    names = {"IPAR_VERBOSITY": "3", "IPAR_PROGRESS": "No", "IPAR_DEVICE": "cpu", "IPAR_SEED": str(2**40)}
    found = Settings.of_environment(names | {"IPAR_DATA": "slides", "IPAR_OTHER": "?"})
    assert (found.verbosity, found.progress, found.device, found.random_state) == (3, False, "cpu", 2**40)
    assert found.datadir == Path("slides")
    assert Settings.of_environment({"IPAR_DEVICE": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [("IPAR_VERBOSITY", "loud"), ("IPAR_VERBOSITY", "7"), ("IPAR_PROGRESS", "maybe"), ("IPAR_SEED", "-3")],
)
def test_environment_that_is_wrong_names_the_variable(variable, text):
    with pytest.raises((TypeError, ValueError), match=rf"{variable} must .*found '?{text}"):
        Settings.of_environment({variable: text})


def said(code, **environment):
    """What a fresh interpreter writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


LEVELS = "import logging, ipar; ipar.settings; log = logging.getLogger('ipar')"
EACH = "; ".join(f"log.{level}('{level}')" for level in ("debug", "info", "warning", "error"))


def test_each_level_shows_one_more():
    every = ["error", "warning", "info", "debug"]
    for verbosity in range(4):
        shown = said(f"{LEVELS}; {EACH}", IPAR_VERBOSITY=str(verbosity))
        assert sorted(shown) == sorted(every[: verbosity + 1])


def test_nothing_is_said_twice_where_logging_is_set_up():
    for setting in ("logging.basicConfig(level=0)", "log.addHandler(logging.StreamHandler())"):
        shown = said(f"{LEVELS}; {setting}; log.warning('once')")
        assert len([line for line in shown if "once" in line]) == 1


def bars(run, name="x"):
    with run.bar(name, 3) as bar:
        return bar.desc.removesuffix(": ")


def test_bars_tell_the_stage_and_its_place(capsys):
    run = Run(progress=True).planned({"folds": 1.0, "encoder": 2.0, "network": 3.0})
    assert bars(run, "alone") == "alone"
    with run.stage("encoder"):
        assert bars(run) == "2 of 3: encoder"
        with run.stage("other"):
            assert bars(run) == "other"
        assert run.quiet().bar("x", 3).disable
    assert bars(run, "alone") == "alone"
    assert list(run.over([5, 6], "x", "step")) == [5, 6]
    assert "2/2" in capsys.readouterr().err


def test_bars_show_the_time_left_of_the_whole_call(capsys):
    now = [100.0]
    run = Run(progress=True, clock=lambda: now[0]).planned({"folds": 1.0, "network": 3.0, "finish": 1.0})

    def shown(bar, seconds, n=1):
        now[0] += seconds
        bar.update(n)
        assert (found := re.search(r"([\d:]+) left in all", str(bar))), str(bar)
        return found[1]

    with run.stage("folds"), run.quiet().bar("x", 4) as quiet, run.bar("x", 4) as bar:
        assert "left in all" not in str(bar)  # nothing is known yet
        assert shown(bar, 10, 2) == "01:30"  # half of one of five parts took 10 seconds
        assert quiet.disable
    now[0] += 10
    with run.stage("network"), run.bar("x", 3) as bar:
        assert shown(bar, 0, 0) == "01:20"
        with run.stage("part of it"), run.bar("y", 2) as inner:
            assert shown(inner, 20) == "02:40"  # 40 seconds for a part of five
        assert shown(bar, 0) == "01:00"  # two parts
        assert shown(bar, 40, 2) == "00:20"
    with run.stage("network"), run.bar("x", 3) as bar:
        assert shown(bar, 20) == "00:25"  # a second bar of a stage begins where the first has ended
    with run.stage("finish"), run.bar("x", 2) as bar:
        assert shown(bar, 80, 2) == "00:00"
    with run.bar("alone", 2) as bar:
        bar.update()
        assert "left in all" not in str(bar)
    assert "left in all" in capsys.readouterr().err


@pytest.mark.parametrize("flow", [None, FlowRecipe()])
def test_costs_are_those_of_the_stages_of_a_fit(flow):
    recipe = Recipe(flow=flow)
    stages = ["network", *(["flow"] if flow else []), "finish", "expected error", "regions"]
    assert list(recipe.costs(embedded=True)) == stages
    assert list(recipe.costs()) == ["folds", "encoder", *stages]
    least, most = sum(Recipe.fast().costs().values()), sum(Recipe.best().costs().values())
    assert least < sum(Recipe().costs().values()) < most


def test_a_stage_that_fails_is_over():
    run = Run(progress=True).planned({"folds": 1.0, "encoder": 2.0})
    with pytest.raises(RuntimeError, match="stop"), run.stage("folds"):
        raise RuntimeError("stop")
    assert bars(run, "alone") == "alone"
    assert list(run.seconds) == ["folds"]


def test_a_fit_counts_all_its_stages(make_slides, settings, caplog, capsys):
    caplog.set_level(logging.DEBUG, logger="ipar")
    slides = make_slides()
    how = settings.fit | {"max_epochs": 1, "progress": True}
    ipar.tl.fit_ipalite(slides, "slide", force=True, **how)
    stages = list(slides.uns["ipar"]["fit"]["seconds"])
    told = [record.message.rsplit(": ", 1)[0] for record in caplog.records if record.levelno == logging.DEBUG]
    assert told == [f"{number} of {len(stages)}: {stage}" for number, stage in enumerate(stages, start=1)]
    shown = capsys.readouterr().err
    assert all(f"{place} of 6: {stage}" in shown for place, stage in ((1, "folds"), (2, "encoder"), (3, "network")))


def test_devices_of_settings_are_those_of_torch():
    for name in ("cpu", "cuda", "cuda:1", "mps"):
        with ipar.settings.override(device=name):
            assert torch.device(ipar.settings.device).type in name
