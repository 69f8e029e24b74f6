"""Ctrl-C or an error at any moment of a call leaves an AnnData as it was: uns, obs, obsm and obsp included.

A call is first run with a count of its events, which are calls of functions of ipar and of methods that write to an
AnnData. Then it is run again and again, and another event raises each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ipar
from tests.matrix.outcomes import changes, remember

N_MOMENTS = 7
QUIET = {"progress": False}


class Interrupting:
    """Counts events from when it is entered, and raises at one of them."""

    def __init__(self, at: int | None, error: type[BaseException]) -> None:
        self.at, self.error, self.events = at, error, 0

    def __enter__(self):
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _event(self, frame, event, _argument):
        if event != "call" or not _counts(frame):
            return
        self.events += 1
        if self.events == self.at:
            sys.setprofile(None)
            raise self.error("at some moment")


def _counts(frame) -> bool:
    module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
    if module in ("ipar._public", "ipar._options", "ipar._preferences", "ipar._settings"):
        return False  # before anything is done, or while it is undone
    writes = module.startswith("anndata.") and name in ("__setitem__", "__delitem__", "obs", "uns", "_set_dim_df")
    return writes or (module.startswith("ipar.") and not name.startswith("<"))


CALLS: dict[str, tuple[str, Callable]] = {
    "predict_coords": ("query", lambda w, a: ipar.tl.predict_coords(a, w.model, reference="a", **QUIET)),
    "predict_coords again": ("placed", lambda w, a: ipar.tl.predict_coords(a, w.model, **QUIET)),
    "sample_coords": ("placed", lambda w, a: ipar.tl.sample_coords(a, w.model, n_samples=2, n_steps=2, **QUIET)),
    "predict_regions": ("query", lambda w, a: ipar.tl.predict_regions(a, w.model, **QUIET)),
    "map_to_reference": ("placed", lambda w, a: ipar.tl.map_to_reference(a, w.model, reference="b", **QUIET)),
    "attention": ("placed", lambda w, a: ipar.tl.attention(a, w.model, ["query3"])),
    "optimise_coords": ("query", lambda w, a: ipar.tl.optimise_coords(a, n_steps=2, **QUIET)),
    "attention_diagnostics": ("placed", lambda w, a: ipar.tl.attention_diagnostics(a, w.model, n_minisets=1, **QUIET)),
    "decompose_gap": ("placed", lambda w, a: ipar.tl.decompose_gap(a, w.model, n_minisets=1, **QUIET)),
    "embed by model": ("train", lambda w, a: ipar.pp.embed(a, "slide", model=w.model, **QUIET)),
    "candidates": ("placed", lambda w, a: ipar.pp.candidates(a, 5)),
    "cell_ellipses": ("query", lambda w, a: ipar.pp.cell_ellipses(a)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_leaves_the_object_as_it_was(world, name):
    base, call = CALLS[name]
    error = (KeyboardInterrupt, MemoryError)[len(name) % 2]
    adata = getattr(world, base).copy()
    before = remember(adata)
    for _ in range(2):  # what is read once and kept is not counted
        other = adata.copy()
        with Interrupting(None, error) as counter:
            call(world, other)
    rng = np.random.default_rng(0)
    late = range(max(1, counter.events - 12), counter.events + 1, 3)  # while results are written
    for at in sorted({*rng.integers(1, counter.events + 1, N_MOMENTS - len(late)).tolist(), *late} - {0}):
        with Interrupting(at, error), pytest.raises(error):
            call(world, adata)
        left = changes(before, remember(adata))
        assert left == set(), f"changed by an interruption at event {at} of {counter.events}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "share",
    [
        *(pytest.param(share, marks=pytest.mark.thorough) for share in (0.05, 0.3, 0.9, 0.99)),
        0.6,
        1.0,
    ],
)
def test_an_error_in_any_stage_of_a_fit_leaves_the_slides_as_they_were(world, settings, share):
    slides = world.slides.copy()
    before, recipe = remember(slides), replace(settings.fit["recipe"], flow=None)
    seen: list[str] = []

    def note(frame, event, _argument):
        if event == "call" and frame.f_globals.get("__name__", "").startswith(("ipar.training", "ipar.tl", "ipar.pp")):
            seen.append(frame.f_code.co_name)
            if len(seen) >= share * _events_of_a_fit(world, recipe):
                sys.setprofile(None)
                raise MemoryError

    _events_of_a_fit(world, recipe)
    sys.setprofile(note)
    try:
        with pytest.raises(MemoryError):
            ipar.tl.fit_ipalite(slides, "slide", recipe=recipe, max_epochs=2, **QUIET)
    finally:
        sys.setprofile(None)
    assert changes(before, remember(slides)) == set()


_COUNTED: dict[int, int] = {}


def _events_of_a_fit(world, recipe) -> int:
    if not _COUNTED:
        count = [0]

        def note(frame, event, _argument):
            if event == "call" and frame.f_globals.get("__name__", "").startswith(
                ("ipar.training", "ipar.tl", "ipar.pp")
            ):
                count[0] += 1

        sys.setprofile(note)
        try:
            ipar.tl.fit_ipalite(world.slides.copy(), "slide", recipe=recipe, max_epochs=2, **QUIET)
        finally:
            sys.setprofile(None)
        _COUNTED[0] = count[0]
    return _COUNTED[0]


@pytest.mark.filterwarnings("ignore")
def test_a_view_that_could_not_be_written_to_is_one_still(world):
    view = world.query[::2]
    before = remember(view)
    with pytest.raises(KeyError):
        ipar.tl.predict_coords(view, world.model, layer="none", **QUIET)
    assert view.is_view
    assert changes(before, remember(view)) == set()


@pytest.mark.filterwarnings("ignore")
def test_what_a_user_holds_of_an_object_stays_the_same(world):
    adata = world.placed.copy()
    held = adata.uns["ipar"]["prediction"], adata.obsm["X_ipar"], adata.obs
    copies = dict(held[0]), held[1].copy(), held[2].copy()
    ipar.tl.predict_coords(adata, world.model, random_state=3, n_rounds=1, **QUIET)
    assert held[0].keys() == copies[0].keys()
    assert (held[1] == copies[1]).all()
    pd.testing.assert_index_equal(held[2].index, copies[2].index)
