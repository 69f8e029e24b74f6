"""Titles, sizes, frames and colours of charts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.container import BarContainer

import ipar

CHARTS = ["diagnostics", "gap", "history", "localisability", "report", "shepard", "uncertainty"]


@pytest.fixture
def draw(both, monkeypatch):
    """Draw a chart by its name."""
    monkeypatch.setattr("ipar.tl.report", lambda *_, **__: {})  # collects what the figure does not show
    return lambda name, **options: getattr(ipar.pl, name)(both, **options, return_fig=True)


def frames(figure):
    """Of every side of every panel, whether it is drawn."""
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>" and ax.axison]
    return [spine.get_visible() for ax in panels for spine in ax.spines.values()]


@pytest.mark.parametrize("name", CHARTS)
def test_titles_sizes_and_frames(draw, name):
    plain = draw(name)
    own = draw(name, title="mine", figsize=(6.5, 4.5), frameon=True)
    np.testing.assert_allclose(own.get_size_inches(), (6.5, 4.5))
    assert not np.allclose(plain.get_size_inches(), (6.5, 4.5))
    shown = [own.get_suptitle(), *(ax.get_title() for ax in own.axes)]
    assert shown.count("mine") == 1
    assert all(frames(own))
    assert not any(frames(draw(name, frameon=False)))


@pytest.mark.parametrize(("name", "n_panels"), [("history", 7), ("diagnostics", 7), ("report", 3)])
def test_a_title_for_each_panel(draw, name, n_panels):
    titles = [f"panel {i}" for i in range(n_panels)]
    figure = draw(name, title=titles)
    assert [ax.get_title() for ax in figure.axes if ax.get_label() != "<colorbar>"] == titles
    with pytest.raises(ValueError, match=f"title has 2 titles, but this plot has {n_panels} panels"):
        draw(name, title=["one", "two"])


def bars(figure):
    return [one for one in figure.axes[0].containers if isinstance(one, BarContainer)]


def test_colours_of_bars_and_curves(draw):
    names = ["first guess", "target edges", "true candidates", "wrong candidates", "all candidates", "gated candidates"]
    assert [one.get_label() for one in bars(draw("gap"))] == names
    palette = {name: plt.get_cmap("tab10")(i) for i, name in enumerate(names)}
    given = {name: to_hex(color) for name, color in palette.items()}
    for one in (given, list(given.values()), "tab10"):
        drawn = {each.get_label(): to_hex(each[0].get_facecolor()) for each in bars(draw("gap", palette=one))}
        assert drawn == given
    lines = draw("history", palette=["red", "lime"]).axes[0].lines
    drawn = {line.get_label(): to_rgba(line.get_color()) for line in lines}
    assert (drawn["candidates and gate"], drawn["target edges"]) == (to_rgba("red"), to_rgba("lime"))
    with pytest.raises(ValueError, match="palette has 1 colours, but 'history' has 2 categories"):
        draw("history", palette=["red"])
    with pytest.raises(ValueError, match="palette has no colour for 'target edges'"):
        draw("history", palette={"candidates and gate": "red"})


@pytest.mark.parametrize("name", ["diagnostics", "shepard"])
def test_colour_maps(draw, name):
    figure = draw(name, cmap="magma")
    maps = {
        one.get_cmap().name
        for ax in figure.axes
        for one in [*ax.images, *ax.collections[:1]]
        if one.get_array() is not None
    }
    assert maps == {"magma"}
