from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from ipar.pl import on_reference


@pytest.fixture
def section():
    xy = np.random.default_rng(0).uniform([100, 500], [400, 700], size=(60, 2))
    adata = ad.AnnData(np.zeros((60, 1), dtype=np.float32), obsm={"spatial": xy})
    adata.obs_names = [f"place{i}" for i in range(60)]
    return adata


@pytest.fixture
def cells():
    xy = np.random.default_rng(1).uniform([150, 550], [350, 650], size=(30, 2))
    adata = ad.AnnData(np.zeros((30, 1), dtype=np.float32), obsm={"X_ipar_reference": xy})
    adata.obs_names = [f"cell{i}" for i in range(30)]
    adata.obs["kind"] = pd.Categorical(["L2", "L4", "L6"] * 10)
    adata.obs["depth"] = np.arange(30.0)
    return adata


@pytest.fixture
def both(cells, section):
    """Cells and a section that name L2 and L4; each has a label of its own, and one place has none."""
    section.obs["kind"] = pd.Categorical([None, *["L4", "L5", "L2"] * 20][:60], categories=["L5", "L4", "L2"])
    return cells, section


def picture(section, scale):
    pixels = np.zeros((int(800 * scale), int(500 * scale), 3))
    section.uns["spatial"] = {
        "s1": {"images": {"hires": pixels}, "scalefactors": {"tissue_hires_scalef": scale}},
        "s2": {"images": {"lowres": pixels[..., 0]}, "scalefactors": {"tissue_lowres_scalef": scale}},
    }


def legend(figure):
    (found,) = figure.legends
    return {text.get_text(): handle.get_color() for text, handle in zip(found.texts, found.legend_handles, strict=True)}


def test_cells_lie_over_a_grey_section(cells, section, artist):
    figure = on_reference(cells, section, return_fig=True)
    (ax,) = figure.axes
    assert ax.get_title() == "30 cells"
    assert len(ax.collections) == 2
    below, above = artist(ax, "section"), artist(ax, "cells")
    assert ax.collections.index(below) < ax.collections.index(above)
    np.testing.assert_allclose(below.get_offsets(), section.obsm["spatial"])
    np.testing.assert_allclose(above.get_offsets(), cells.obsm["X_ipar_reference"])
    assert len(np.unique(below.get_facecolor(), axis=0)) == 1
    assert len(np.unique(above.get_facecolor(), axis=0)) == 30  # a colour for every place
    assert ax.get_aspect() == 1
    assert not figure.legends


def test_a_column_of_the_cells_alone_has_one_panel_and_a_key(cells, section):
    figure = on_reference(cells, section, "kind", return_fig=True)
    assert len(figure.axes) == 1
    assert list(legend(figure)) == ["L2", "L4", "L6"]


def test_a_column_of_both_has_two_panels_to_one_scale_and_one_key(both, artist):
    cells, section = both
    figure = on_reference(cells, section, "kind", return_fig=True)
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["section", "30 cells"]
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    assert [len(ax.collections) for ax in figure.axes] == [1, 2]
    key = legend(figure)
    assert list(key) == ["L2", "L4", "L6", "L5"]  # those of the cells first
    assert len({to_rgba(color) for color in key.values()}) == 4
    for ax, name, adata in ((left, "section", section), (right, "cells", cells)):
        drawn, labels = artist(ax, name).get_facecolor(), adata.obs["kind"]
        for label, color in key.items():
            if (labels == label).any():
                np.testing.assert_allclose(
                    drawn[(labels == label).to_numpy()], [to_rgba(color)] * (labels == label).sum()
                )
    assert np.ptp(artist(left, "section").get_facecolor()[0, :3]) == 0  # no label: grey


def test_stored_colours_hold_for_both_and_are_given_to_no_other_label(both):
    cells, section = both
    section.uns["kind_colors"] = ["#0072B2", "#E69F00", "#123456"]  # L5, L4, L2
    key = legend(on_reference(cells, section, "kind", return_fig=True))
    assert {name: to_rgba(key[name]) for name in ("L5", "L4", "L2")} == {
        name: to_rgba(color) for name, color in zip(("L5", "L4", "L2"), section.uns["kind_colors"], strict=True)
    }
    assert len({to_rgba(color) for color in key.values()}) == 4
    cells.uns["kind_colors"] = ["#111111", "#222222", "#333333"]
    key = legend(on_reference(cells, section, "kind", return_fig=True))
    assert to_rgba(key["L4"]) == to_rgba("#222222")  # those of the cells come first
    assert to_rgba(key["L5"]) == to_rgba("#0072B2")


def test_groups_leave_other_cells_out_and_other_places_grey(both, artist):
    cells, section = both
    every = legend(on_reference(cells, section, "kind", return_fig=True))
    figure = on_reference(cells, section, "kind", groups=["L4", "L5"], return_fig=True)
    left, right = figure.axes
    assert right.get_title() == "10 cells"
    np.testing.assert_allclose(
        artist(right, "cells").get_offsets(), cells.obsm["X_ipar_reference"][cells.obs["kind"] == "L4"]
    )
    key = legend(figure)
    assert list(key) == ["L4", "L5"]
    assert all(to_rgba(key[name]) == to_rgba(every[name]) for name in key)  # the same colours as without
    other = artist(left, "section").get_facecolor()[(section.obs["kind"] == "L2").to_numpy()]
    assert (np.ptp(other[:, :3], axis=1) == 0).all()


def test_numbers_of_both_have_one_scale(cells, section):
    section.obs["depth"] = np.linspace(10, 100, 60)
    figure = on_reference(cells, section, "depth", return_fig=True)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylim() == (0, 100)


def test_an_image_lies_below_the_cells_with_its_rows_running_down(both, artist):
    cells, section = both
    picture(section, scale=0.5)
    figure = on_reference(cells, section, "kind", return_fig=True)
    for ax in figure.axes:
        (image,) = ax.images
        assert image.get_extent() == [0, 500, 800, 0]  # in the units of the coordinates
        low, high = ax.get_ylim()
        assert low > high
        assert image.get_zorder() < artist(ax, "cells" if "cells" in ax.get_title() else "section").get_zorder()
    assert [one.get_label() for one in figure.axes[1].collections] == ["cells"]  # the image takes the place of the grey
    (ax,) = on_reference(cells, section, library_id="s2", return_fig=True).axes
    assert ax.images[0].get_array().ndim == 2
    (ax,) = on_reference(cells, section, img=False, return_fig=True).axes
    assert not ax.images
    assert ax.get_ylim()[0] < ax.get_ylim()[1]


def test_many_labels_fit_in_the_figure(cells, section):
    cells = ad.concat([cells] * 2, index_unique="-")
    cells.obs["kind"] = pd.Categorical([f"a long name of a cell type {i}" for i in range(60)])
    figure = on_reference(cells, section, "kind", return_fig=True)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height
    assert figure.axes[0].get_window_extent().width > 100


def test_cells_without_a_place_are_left_out(cells, section, artist):
    cells.obsm["X_ipar_reference"][4] = np.nan
    (ax,) = on_reference(cells, section, "kind", return_fig=True).axes
    assert ax.get_title() == "29 cells"
    assert len(artist(ax, "cells").get_offsets()) == 29


def test_given_axes_show_and_views(both, monkeypatch):
    cells, section = both
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    figure, grid = plt.subplots(1, 2)
    assert on_reference(cells, section, "kind", ax=grid, return_fig=True) is figure
    assert not figure.legends
    assert not shown
    assert on_reference(cells[:], section[:], "kind") is None
    assert len(shown) == 1
    with pytest.raises(ValueError, match="2 panel"):
        on_reference(cells, section, "kind", ax=grid[0])


def test_drawing_leaves_the_data_alone(both):
    cells, section = both
    section.uns["kind_colors"] = ["#0072B2", "#E69F00", "#123456"]
    before = [adata.copy() for adata in both]
    on_reference(cells, section, "kind", groups=["L2"], return_fig=True)
    for one, other in zip(before, both, strict=True):
        assert one.obs.equals(other.obs)
        assert [*one.uns, *(["kind_colors"] if one is before[0] else [])] == list(other.uns)
    assert section.uns["kind_colors"] == ["#0072B2", "#E69F00", "#123456"]
    kept = dict(zip(cells.obs["kind"].astype("category").cat.categories, cells.uns["kind_colors"], strict=True))
    assert (kept["L2"], kept["L4"]) == ("#123456", "#e69f00")


def test_errors_name_the_remedy(both):
    cells, section = both
    with pytest.raises(KeyError, match="'type' is neither a column of adata.obs, found .*kind"):
        on_reference(cells, section, "type")
    with pytest.raises(ValueError, match="no 'L9'.*'L2', 'L4', 'L5', 'L6'"):
        on_reference(cells, section, "kind", groups=["L9"])
    with pytest.raises(ValueError, match="groups needs a column"):
        on_reference(cells, section, groups=["L2"])
    with pytest.raises(KeyError, match="name the key of its coordinates as spatial_key"):
        on_reference(cells, section, spatial_key="xy")
    with pytest.raises(KeyError, match=r"predict_coords\(cells, model, reference="):
        on_reference(cells, section, use_rep="X_other")
    picture(section, scale=0.5)
    with pytest.raises(KeyError, match=r"no 's9', found \['s1', 's2'\]"):
        on_reference(cells, section, library_id="s9")
