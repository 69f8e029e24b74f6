"""Under any settings of the user's process, calls give what they give without, and leave the settings as they were."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import ipar

QUIET = {"progress": False}


@contextmanager
def put(setting: Callable[[Any], None], value: Any, before: Any) -> Iterator[None]:
    """A setting that is one for the whole process."""
    setting(value)
    try:
        yield
    finally:
        setting(before)


def deterministic(value: bool) -> None:
    torch.use_deterministic_algorithms(value)
    torch.utils.deterministic.fill_uninitialized_memory = True


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients off": lambda: put(torch.set_grad_enabled, False, True),
    "float64 by default": lambda: put(torch.set_default_dtype, torch.float64, torch.float32),
    "float16 by default": lambda: put(torch.set_default_dtype, torch.float16, torch.float32),
    "meta by default": lambda: put(torch.set_default_device, "meta", None),
    "within a meta device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": lambda: put(deterministic, True, False),
    "another number of threads": lambda: put(torch.set_num_threads, 2, torch.get_num_threads()),
    "numpy raises": lambda: np.errstate(all="raise"),
    "copy on write": lambda: pd.option_context("mode.copy_on_write", True),
    "strings inferred": lambda: pd.option_context("future.infer_string", True),
}


def settings_now() -> dict[str, Any]:
    """All that calls must leave as it was."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "numpy": np.geterr(),
        "pandas": (pd.get_option("mode.copy_on_write"), pd.get_option("future.infer_string")),
        "environment": dict(os.environ),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "numpy random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "torch random": torch.get_rng_state().tolist() if torch.get_default_device().type == "cpu" else None,
    }


def place(world: Any) -> dict[str, np.ndarray]:
    """What the calls of a prediction give."""
    cells, model = world.query.copy(), world.model
    ipar.tl.predict_coords(cells, model, reference="a", library_key="slide", **QUIET)
    ipar.tl.sample_coords(cells, model, n_samples=2, n_steps=3, key_added="X_drawn", **QUIET)
    ipar.tl.predict_coords(cells, model, reference="a", library_key="slide", **QUIET)
    ipar.tl.predict_regions(cells, model, **QUIET)
    ipar.tl.map_to_reference(cells, model, reference="a", **QUIET)
    ipar.tl.attention_diagnostics(cells, model, n_minisets=1, **QUIET)
    ipar.tl.optimise_coords(cells, n_steps=3, **QUIET)
    ipar.pp.cell_ellipses(cells)
    ipar.pp.candidates(cells, 10)
    found = {key: np.asarray(values) for key, values in cells.obsm.items() if isinstance(values, np.ndarray)}
    scores = ipar.metrics.evaluate(cells.obsm["spatial"], cells.obsm["X_ipar"])
    return found | {"scores": np.array(list(scores.values())), "map": cells.obsm["ipar_map"].toarray()}


def draw(world: Any) -> None:
    """Some plots."""
    import matplotlib.pyplot as plt

    for name in ("coords", "attention_focus", "history", "uncertainty", "shepard"):
        getattr(ipar.pl, name)(world.placed, return_fig=True)
    ipar.pl.report(world.placed, world.model, return_fig=True)
    plt.close("all")


@pytest.fixture(scope="module")
def usual(world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return place(world)


FEW = ("inference_mode", "float16 by default", "meta by default", "autocast", "numpy raises", "copy on write")


def by_default(*names: str) -> list[Any]:
    """All settings; others than these are thorough."""
    return [pytest.param(name, marks=[pytest.mark.thorough] * (name not in names)) for name in SETTINGS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", by_default(*FEW))
def test_a_prediction_is_the_same_and_settings_stay(world, usual, name):
    with SETTINGS[name]():
        before = settings_now()
        found = place(world)
        draw(world)
        after = settings_now()
    assert after == before
    assert found.keys() == usual.keys()
    for key, values in usual.items():
        if "recycles" not in key:
            np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", by_default("inference_mode", "float64 by default"))
def test_a_fit_is_the_same_and_settings_stay(world, settings, name, tmp_path, fits):
    with SETTINGS[name]():
        before = settings_now()
        model = fits(world, settings)
        model.save(tmp_path / "model")
        back = ipar.load(tmp_path / "model")
        assert settings_now() == before
    expected = fits.usual(world, settings)
    state, again, usual = (one.state()[1] for one in (model, back, expected))
    exact = name not in ("another number of threads", "deterministic")
    for key, values in usual.items():
        assert np.array_equal(state[key], again[key])
        assert state[key].dtype == values.dtype
        if exact:
            np.testing.assert_allclose(state[key], values, rtol=1e-5, atol=1e-6, err_msg=key)


class _Fits:
    """A small fit of every kind of stage; without other settings, one for all tests."""

    def __init__(self) -> None:
        self._usual = None

    def __call__(self, world, settings):
        recipe = settings.fit["recipe"]
        flow = replace(recipe.flow, training=replace(recipe.flow.training, max_epochs=1))
        return ipar.tl.fit_ipalite(
            world.slides.copy(), "slide", recipe=replace(recipe, flow=flow), max_epochs=1, **QUIET
        )

    def usual(self, world, settings):
        if self._usual is None:
            self._usual = self(world, settings)
        return self._usual


@pytest.fixture(scope="module")
def fits():
    return _Fits()


def test_nothing_of_ipar_or_below_warns(world):
    """As with ``python -W error``; what ipar itself says of these cells is let through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for category in (ipar.tl.ResemblanceWarning, ipar.tl.FrameWarning, ipar.pp.LocalisabilityWarning):
            warnings.simplefilter("ignore", category)
        place(world)
        draw(world)
        ipar.load(world.folder / "model")


@pytest.mark.filterwarnings("ignore")
def test_calls_in_threads_give_the_same_and_bring_the_dtype_back(world, usual):
    found: list[dict[str, np.ndarray]] = []
    torch.set_default_dtype(torch.float64)
    try:
        # pandas and scikit-learn enter catch_warnings, which until Python 3.14 leaves other threads' filters behind
        with warnings.catch_warnings():
            threads = [threading.Thread(target=lambda: found.append(place(world))) for _ in range(3)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(found) == 3
    for one in found:
        np.testing.assert_allclose(one["X_ipar"], usual["X_ipar"], rtol=1e-4, atol=1e-4)


def test_a_command_leaves_the_process_as_it_was(world, capsys):
    from ipar._cli import main

    before = settings_now()
    assert main(["evaluate", str(world.folder / "placed.h5ad")]) == 0
    assert main(["evaluate", str(world.folder / "none.h5ad")]) == 2
    assert settings_now() == before
