"""What users of scanpy pass to plots: genes, lists, sizes, titles, palettes and colour maps; and a scale bar."""

from __future__ import annotations

import sys

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy import sparse

import ipar
from ipar.pl import attention_focus, coord_progression, coords, ellipses, on_reference, samples, uncertainty

MAPS = ["coord_progression", "coords", "regions", "samples", "uncertainty"]


@pytest.fixture
def cells(predicted):
    predicted.obs["kind"] = pd.Categorical(np.array(["p", "q", "r"])[np.arange(predicted.n_obs) % 3])
    expression = np.random.default_rng(3).gamma(1.0, size=predicted.shape).astype(np.float32)
    predicted.X = sparse.csr_matrix(expression)
    predicted.layers["other"] = expression[::-1].copy()
    predicted.var_names = ["Sox2", "Pax6", "Tbr1"]
    return predicted


def dots(ax):
    return ax.collections[0]


def bars(ax):
    return [one for one in ax.artists if isinstance(one, AnchoredSizeBar)]


@pytest.mark.parametrize(("layer", "stored"), [(None, "X"), ("other", "other")])
def test_a_gene_is_drawn_by_its_expression(cells, layer, stored):
    figure = coords(cells, "Pax6", layer=layer, return_fig=True)
    values = cells.X.toarray()[:, 1] if stored == "X" else cells.layers["other"][:, 1]
    shown = dots(figure.axes[0]).get_facecolor()
    np.testing.assert_allclose(shown, plt.get_cmap("viridis")((values - values.min()) / np.ptp(values)), atol=2e-2)
    with pytest.raises(KeyError, match=r"'Nope' is neither a column .* nor a gene of adata.var_names"):
        coords(cells, "Nope")
    with pytest.raises(KeyError, match="no 'nope', found .*'other'.*name one of these as layer"):
        coords(cells, "Pax6", layer="nope")


def test_a_list_has_a_row_for_each(cells):
    figure = coords(cells, ["kind", "Sox2", "Tbr1"], error=True, return_fig=True)
    maps = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title().split(" (")[0] for ax in maps] == ["truth", "prediction", "error"] * 3
    assert len({ax.get_position().y0.round(3) for ax in maps[::3]}) == 3
    np.testing.assert_array_equal(*(dots(ax).get_facecolor() for ax in maps[3:5]))
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_label() == "<colorbar>"].count("RMS radii") == 3
    (key,) = [ax.get_legend() for ax in maps if ax.get_legend()]
    assert [text.get_text() for text in key.get_texts()] == ["p", "q", "r"]
    with pytest.raises(ValueError, match="color is an empty list"):
        coords(cells, [])


def test_a_list_has_panels_for_each_wherever_there_is_a_colour(cells):
    for draw, each in ((coord_progression, 6), (ellipses, 1)):
        options = {"ellipse_key": "ellipse"} if draw is ellipses else {}
        figure = draw(cells, ["kind", "Sox2"], **options, return_fig=True)
        maps = [ax for ax in figure.axes if ax.get_title()]
        assert len(maps) == 2 * each
        kinds, expression = (maps[each * i].collections[0] for i in range(2))
        for drawn, color in ((kinds, "kind"), (expression, "Sox2")):
            alone = draw(cells, color, **options, return_fig=True).axes[0].collections[0]
            np.testing.assert_array_equal(drawn.get_facecolor(), alone.get_facecolor())
        (key,) = [ax.get_legend() for ax in maps if ax.get_legend()]
        assert [text.get_text() for text in key.get_texts()] == ["p", "q", "r"]
        assert [ax.get_ylabel() for ax in figure.axes if ax.get_label() == "<colorbar>"] == ["Sox2"]
        with pytest.raises(ValueError, match="color is an empty list"):
            draw(cells, [], **options)


def test_a_list_on_a_reference_has_the_section_where_it_has_the_column(cells):
    section = cells[:80].copy()
    section.obs = section.obs[["kind"]]
    cells.obsm["X_ipar_reference"] = cells.obsm["spatial"]
    figure = on_reference(cells, section, ["Pax6", "kind"], return_fig=True)
    maps = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in maps] == ["120 cells", "section", "120 cells"]
    gene, kinds = maps[0].get_position(), maps[1].get_position()
    assert gene.x0 == pytest.approx(kinds.x0, abs=0.02)
    assert gene.y0 > kinds.y1
    alone = on_reference(cells, section, "kind", return_fig=True)
    for one, other in zip(maps[1:], alone.axes, strict=True):
        np.testing.assert_array_equal(one.collections[-1].get_facecolor(), other.collections[-1].get_facecolor())
    given = plt.figure().subplots(1, 3)
    on_reference(cells, section, ["Pax6", "kind"], ax=given)
    assert [ax.get_title() for ax in given] == ["120 cells", "section", "120 cells"]
    with pytest.raises(ValueError, match=r"groups needs a column of cells.obs as color, found \['Pax6', 'kind'\]"):
        on_reference(cells, section, ["Pax6", "kind"], groups=["p"])


def test_errors_are_distances_from_the_aligned_truth(cells):
    figure = coords(cells, error=True, return_fig=True)
    truth, aligned = (dots(ax).get_offsets() for ax in figure.axes[:2])
    distance = np.linalg.norm(truth - aligned, axis=1)
    shown = dots(figure.axes[2]).get_facecolor()
    near, far = distance.argsort()[:20], distance.argsort()[-20:]
    lightness = shown[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert lightness[near].min() > lightness[far].max()  # the worse, the darker
    with pytest.raises(KeyError, match="error needs true coordinates"):
        coords(cells, error=True, spatial_key=None)


def test_colours_of_categories_are_those_of_scanpy_before_and_after(cells):
    cells.uns["kind_colors"] = ["#112233", "#445566", "#778899"]
    assert to_hex(dots(coords(cells, "kind", return_fig=True).axes[0]).get_facecolor()[1]) == "#445566"
    assert list(cells.uns["kind_colors"]) == ["#112233", "#445566", "#778899"]
    del cells.uns["kind_colors"]
    figure = coords(cells, "kind", return_fig=True)
    drawn = [to_hex(color) for color in dots(figure.axes[0]).get_facecolor()[:3]]
    assert list(cells.uns["kind_colors"]) == drawn
    view = cells[cells.obs["kind"] != "q"]
    del cells.uns["kind_colors"]
    coords(view, "kind")
    assert view.is_view
    assert "kind_colors" not in cells.uns


@pytest.mark.parametrize(
    "palette",
    [["red", "lime", "blue"], {"q": "lime", "p": "red", "r": "blue", "unused": "k"}],
)
def test_a_palette_is_taken_and_kept(cells, palette):
    figure = ellipses(cells, "kind", ellipse_key="ellipse", palette=palette, return_fig=True)
    np.testing.assert_allclose(dots(figure.axes[0]).get_edgecolor()[:3], [to_rgba(c) for c in ("red", "lime", "blue")])
    assert list(cells.uns["kind_colors"]) == ["#ff0000", "#00ff00", "#0000ff"]


def test_a_palette_may_be_a_colour_map(cells):
    coords(cells, "kind", palette="Set2")
    assert list(cells.uns["kind_colors"]) == [to_hex(plt.get_cmap("Set2")(i)) for i in range(3)]
    coords(cells, "kind", palette="viridis")
    assert list(cells.uns["kind_colors"]) == [to_hex(plt.get_cmap("viridis")(x)) for x in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"palette": ["red"]}, "palette has 1 colours, but 'kind' has 3 categories"),
        ({"palette": {"p": "red"}}, "palette has no colour for 'q'"),
        ({"palette": ["red", "nocolor", "blue"]}, "palette must hold colours, found 'nocolor'"),
        ({"palette": "nomap"}, "palette must be a colour map .* found 'nomap'"),
        ({"cmap": "nomap"}, "cmap must be a colour map .* found 'nomap'"),
        ({"title": ["one"]}, "title has 1 titles, but this plot has 2 panels"),
        ({"size": 0}, "size must be"),
    ],
)
def test_what_cannot_be_drawn_is_named_and_nothing_is_kept(cells, options, message):
    with pytest.raises(ValueError, match=message):
        coords(cells, "kind", **options)
    assert "kind_colors" not in cells.uns


@pytest.mark.parametrize("name", MAPS)
def test_sizes_frames_and_titles(cells, name):
    draw = getattr(ipar.pl, name)
    plain, own = draw(cells, return_fig=True), draw(cells, size=7.0, frameon=True, title="mine", return_fig=True)
    n_panels = len([ax for ax in plain.axes if ax.get_title()])
    assert "mine" in (own.get_suptitle() if n_panels > 1 else own.axes[0].get_title())
    assert dots(own.axes[0]).get_sizes().tolist() == [7.0]
    assert own.axes[0].spines["left"].get_visible()
    assert not plain.axes[0].spines["left"].get_visible()
    titled = draw(cells, title=[f"panel {i}" for i in range(n_panels)], return_fig=True)
    assert [ax.get_title() for ax in titled.axes if ax.get_title()] == [f"panel {i}" for i in range(n_panels)]


def test_attention_has_a_title_per_figure(cells):
    first, second = attention_focus(cells, ["c5", "c40"], title=["one", "two"], frameon=True, return_fig=True)
    assert (first.get_suptitle(), second.get_suptitle()) == ("one", "two")
    assert first.axes[0].spines["left"].get_visible()
    with pytest.raises(ValueError, match="title has 1 titles, but this plot has 2 figures"):
        attention_focus(cells, ["c5", "c40"], title=["one"])


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(("n", "size"), [(8, 20), (21, 28), (60, 102)])
def test_many_categories_have_the_colours_of_scanpy_where_it_is_installed(cells, monkeypatch, installed, n, size):
    cells.obs["kind"] = pd.Categorical([f"k{i % n:03}" for i in range(cells.n_obs)])
    if installed:
        palettes = pytest.importorskip("scanpy").pl.palettes
        wanted = [to_hex(one) for one in getattr(palettes, f"default_{size}")[:n]]
    else:
        monkeypatch.setitem(sys.modules, "scanpy", None)
        wanted = None
    drawn = coords(cells, "kind", return_fig=True).axes[0].collections[0].get_facecolor()
    kept = list(cells.uns["kind_colors"])
    assert kept == (wanted or [to_hex(color) for color in drawn[:n]])
    assert len(set(kept)) == n


@pytest.mark.parametrize("draw", [samples, uncertainty])
def test_a_colour_map_of_numbers(cells, draw):
    one, other = (draw(cells, cmap=cmap, return_fig=True) for cmap in ("viridis", plt.get_cmap("magma")))
    assert not np.array_equal(*(dots(figure.axes[0]).get_facecolor() for figure in (one, other)))


def test_panels_of_one_frame_zoom_together(cells):
    first, second = coord_progression(cells, return_fig=True).axes[:2]
    first.set_xlim(0, 10)
    assert second.get_xlim() == (0, 10)


@pytest.mark.parametrize(
    ("uns", "unit", "micrometres"),
    [
        ({}, None, None),
        ({}, 1.0, 1.0),
        ({"source": {"micrometres": 1.0}}, None, 1.0),
        ({"source": {"micrometres": 1.0}}, 10.0, 10.0),
        ({"spatial": {"v": {"scalefactors": {"spot_diameter_fullres": 110.0}}}}, None, 0.5),
        ({"spatial": {"v": {"scalefactors": {"microns_per_pixel": 0.27, "spot_diameter_fullres": 3.0}}}}, None, 0.27),
    ],
)
def test_a_scale_bar_has_a_round_length_where_the_unit_is_known(cells, uns, unit, micrometres):
    cells.uns |= uns
    figure = coords(cells, unit=unit, return_fig=True)
    drawn = bars(figure.axes[0])
    assert len(drawn) == (micrometres is not None)
    for bar in drawn:
        length = bar.size_bar.get_children()[0].get_width() * micrometres
        said = float(bar.txt_label.get_text().split()[0]) * (1000 if "mm" in bar.txt_label.get_text() else 1)
        np.testing.assert_allclose(length, said)
        assert said / 10 ** np.floor(np.log10(said) + 1e-9) in (pytest.approx(1), pytest.approx(2), pytest.approx(5))
        extent = np.ptp(np.concatenate([dots(ax).get_offsets() for ax in figure.axes[:2]])[:, 0]) * micrometres
        assert 0.08 * extent <= length <= 0.21 * extent
    assert not bars(figure.axes[1])


def test_a_layout_of_unknown_truth_has_no_scale(cells):
    assert not bars(coords(cells, spatial_key=None, unit=1.0, return_fig=True).axes[0])


def test_simulated_slides_know_their_unit():
    slides = ipar.datasets.layered_tissue(n_slides=1, n_cells=60, n_genes=50)
    slides.obsm["X_ipar"] = slides.obsm["spatial"] / 100
    assert bars(coords(slides, return_fig=True).axes[0])


def test_backed_cells_are_coloured_by_a_gene(cells, tmp_path):
    cells.uns.pop("ipar")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    shown = [
        dots(coords(one, "Sox2", return_fig=True).axes[0]).get_facecolor()
        for one in (cells, ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
    ]
    np.testing.assert_array_equal(*shown)
