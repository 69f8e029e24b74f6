from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from ipar import pl

NAMES = [
    "attention_focus",
    "coord_progression",
    "coords",
    "diagnostics",
    "ellipses",
    "gap",
    "history",
    "localisability",
    "regions",
    "samples",
    "shepard",
    "uncertainty",
]


def test_all_is_public():
    assert sorted(pl.__all__) == sorted([*NAMES, "on_reference", "report"])  # which have tests of their own


@pytest.mark.parametrize("name", NAMES)
def test_shown_unless_the_figure_is_asked_for(both, monkeypatch, name):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    draw = getattr(pl, name)
    assert draw(both) is None
    assert len(shown) == 1
    assert draw(both, return_fig=True) is not None
    assert draw(both, show=False) is None
    assert len(shown) == 1
    assert draw(both, show=True, return_fig=True) is not None
    assert len(shown) == 2


@pytest.mark.parametrize("name", NAMES)
def test_drawing_leaves_the_data_and_the_settings_alone(both, name):
    before = both.copy()
    settings = dict(plt.rcParams)
    result = getattr(pl, name)(both, return_fig=True)
    for figure in result if isinstance(result, list) else [result]:
        figure.canvas.draw()
    assert dict(plt.rcParams) == settings
    for key in before.obsm:
        assert (both.obsm[key] == before.obsm[key]).all()
    for key, value in before.uns["ipar"]["attention"].items():
        assert (both.uns["ipar"]["attention"][key] == value).all()
    for key in ("history", "diagnostics", "gap"):
        assert both.uns["ipar"][key].equals(before.uns["ipar"][key])
    assert both.obs.equals(before.obs)
    assert list(both.uns) == list(before.uns)


@pytest.mark.parametrize("name", NAMES)
def test_views_are_drawn(both, name):
    assert getattr(pl, name)(both[:], return_fig=True) is not None


def test_import_loads_neither_torch_nor_pyplot():
    code = "import sys, ipar.pl; print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
