from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from ipar.pl import coord_progression, coords
from ipar.pl._colors import position_colors


def dots(ax):
    (found,) = ax.collections
    return found


def names(figure):
    return [ax.get_title().split(" (")[0] for ax in figure.axes if ax.get_title()]


# coords ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_a_moved_turned_scaled_and_mirrored_prediction_lies_on_the_truth(predicted, flip):
    angle = 0.8
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1.0, flip])
    predicted.obsm["X_ipar"] = 0.01 * predicted.obsm["spatial"] @ turn + [7.0, -3.0]
    figure = coords(predicted, return_fig=True)
    truth, prediction = figure.axes
    assert truth.get_title() == "truth"
    assert prediction.get_title() == "prediction (error 0.00)"
    np.testing.assert_allclose(dots(truth).get_offsets(), predicted.obsm["spatial"])
    np.testing.assert_allclose(dots(prediction).get_offsets(), predicted.obsm["spatial"], atol=1e-6)
    assert truth.get_xlim() == prediction.get_xlim()
    assert truth.get_ylim() == prediction.get_ylim()


def test_a_cell_keeps_the_colour_of_its_true_position(predicted):
    figure = coords(predicted, return_fig=True)
    truth, prediction = (dots(ax).get_facecolor() for ax in figure.axes)
    np.testing.assert_array_equal(truth, prediction)
    predicted.obsm["X_ipar"] = predicted.obsm["X_ipar"][::-1].copy()
    again = coords(predicted, return_fig=True)
    np.testing.assert_array_equal(truth, dots(again.axes[1]).get_facecolor())


def test_without_the_truth_the_prediction_stands_alone_and_unmoved(predicted):
    for key in (None, "no such key"):
        figure = coords(predicted, spatial_key=key, return_fig=True)
        (ax,) = figure.axes
        assert ax.get_title() == "prediction"
        np.testing.assert_allclose(dots(ax).get_offsets(), predicted.obsm["X_ipar"], rtol=1e-6)


def test_cells_without_a_position_are_left_out(predicted):
    predicted.obsm["spatial"][3] = np.nan
    predicted.obsm["X_ipar"][8] = np.nan
    figure = coords(predicted, return_fig=True)
    rest = np.delete(np.arange(predicted.n_obs), [3, 8])
    np.testing.assert_allclose(dots(figure.axes[0]).get_offsets(), predicted.obsm["spatial"][rest])
    assert len(dots(figure.axes[1]).get_offsets()) == len(rest)


def test_one_slide_is_drawn_and_named(predicted):
    predicted.obs["section"] = pd.Categorical(np.where(np.arange(predicted.n_obs) % 3 == 0, "x", "b"))
    rows = np.flatnonzero(predicted.obs["section"] == "x")
    figure = coords(predicted, library_key="section", slide="x", return_fig=True)
    assert figure.get_suptitle() == "x"
    np.testing.assert_allclose(dots(figure.axes[0]).get_offsets(), predicted.obsm["spatial"][rows])
    first = coords(predicted, library_key="section", return_fig=True)
    assert first.get_suptitle() == "b"
    assert coords(predicted, return_fig=True).get_suptitle() == ""  # obs["slide"] has one slide only


def test_a_slide_of_unknown_truth_among_known_ones(predicted):
    predicted.obs["slide"] = pd.Categorical(np.where(np.arange(predicted.n_obs) < 50, "cells", "section"))
    predicted.obsm["spatial"][:50] = np.nan
    assert names(coords(predicted, slide="cells", return_fig=True)) == ["prediction"]
    assert names(coords(predicted, slide="section", return_fig=True)) == ["truth", "prediction"]


def test_categories_have_a_legend_and_their_stored_colours(predicted):
    labels = np.array(["p", "q", None], dtype=object)[np.arange(predicted.n_obs) % 3]
    predicted.obs["kind"] = pd.Categorical(labels, categories=["p", "q", "unused"])
    predicted.uns["kind_colors"] = ["#112233", "#445566", "#778899"]
    figure = coords(predicted, "kind", return_fig=True)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["p", "q"]
    colors = dots(figure.axes[1]).get_facecolor()
    np.testing.assert_allclose(colors[0::3], np.tile(to_rgba("#112233"), (40, 1)))
    np.testing.assert_allclose(colors[1::3], np.tile(to_rgba("#445566"), (40, 1)))
    np.testing.assert_allclose(colors[2::3, :3], np.full((40, 3), colors[2, 0]))  # missing: grey


@pytest.mark.parametrize("n", [2, 7, 8, 60, 61])
def test_any_number_of_categories_gets_distinct_colours(predicted, n):
    predicted.obs["kind"] = pd.Categorical([f"k{i % n}" for i in range(predicted.n_obs)])
    colors = dots(coords(predicted, "kind", return_fig=True).axes[0]).get_facecolor()
    assert len(np.unique(colors.round(6), axis=0)) == n


def test_numbers_have_a_colour_bar(predicted):
    predicted.obs["depth"] = np.arange(predicted.n_obs, dtype=float)
    predicted.obs.loc["c7", "depth"] = np.nan
    figure = coords(predicted, "depth", return_fig=True)
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert [bar.get_ylabel() for bar in bars] == ["depth"]
    assert bars[0].get_ylim() == (0, predicted.n_obs - 1)
    colors = dots(figure.axes[0]).get_facecolor()
    lightness = colors[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(np.delete(lightness, 7)) > -1e-9).all()
    assert np.ptp(colors[7, :3]) == 0


@pytest.mark.parametrize(("n", "raster"), [(100, False), (2000, True)])
def test_many_dots_are_rasterised_and_smaller(n, raster):
    xy = np.random.default_rng(0).normal(size=(n, 2))
    adata = ad.AnnData(np.zeros((n, 1), dtype=np.float32), obsm={"spatial": xy, "X_ipar": xy})
    ax = coords(adata, return_fig=True).axes[0]
    assert bool(dots(ax).get_rasterized()) == raster
    area = dots(ax).get_sizes()[0] * n / 72**2  # square inches of ink, were no dots to overlap
    assert 1.0 < area < 6.0 or not raster
    assert dots(ax).get_sizes()[0] <= 36


def test_errors_name_the_remedy(predicted):
    with pytest.raises(KeyError, match=r"run ipar\.tl\.predict_coords first"):
        coords(predicted, use_rep="X_other")
    with pytest.raises(KeyError, match="'kind' is neither a column .*slide.* nor a gene"):
        coords(predicted, "kind")
    with pytest.raises(KeyError, match="no slide column 'section'"):
        coords(predicted, library_key="section")
    with pytest.raises(ValueError, match=r"no slide 'two': pass one of \['one'\]"):
        coords(predicted, slide="two")
    predicted.obsm["spatial"] = np.zeros((predicted.n_obs, 3))
    with pytest.raises(ValueError, match=r"shape \(120, 3\), expected \(n_obs, 2\)"):
        coords(predicted)
    predicted.obsm["X_ipar"][:] = np.nan
    with pytest.raises(ValueError, match="no cell of this slide has finite"):
        coords(predicted, spatial_key=None)


# coord_progression ----------------------------------------------------------------------------------------------------


PANELS = ["initial guess", "recycle 1", "recycle 2", "recycle 3", "finished layout"]


@pytest.fixture
def stages(predicted):
    """What is drawn of the predicted slide, the finished layout being none of the network's own."""
    rng = np.random.default_rng(3)
    predicted.obsm["X_ipar"] = predicted.obsm["X_ipar"] + rng.normal(scale=0.1, size=(120, 2)).astype(np.float32)
    own = predicted.obsm["X_ipar_recycles"]
    return [*(own[:, 2 * r : 2 * r + 2] for r in range(4)), predicted.obsm["X_ipar"]]


def test_truth_then_guess_then_every_recycle_then_the_finished_layout(predicted, stages):
    figure = coord_progression(predicted, return_fig=True)
    assert names(figure) == ["truth", *PANELS]
    truth = predicted.obsm["spatial"]
    for layout, ax in zip(stages, figure.axes[1:], strict=True):
        drawn, layout = np.asarray(dots(ax).get_offsets()), layout.astype(float)
        # least squares: no small turn or stretch of what is drawn comes closer to the truth, and it is the same shape
        best = ((drawn - truth) ** 2).sum()
        centre = truth.mean(0)
        for turn in (0.01, -0.01):
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            assert (((drawn - centre) @ rotation + centre - truth) ** 2).sum() > best
            assert (((drawn - centre) * (1 + turn) + centre - truth) ** 2).sum() > best
        ratio = np.linalg.norm(drawn[1:] - drawn[0], axis=1) / np.linalg.norm(layout[1:] - layout[0], axis=1)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
        error = np.sqrt(best / ((truth - centre) ** 2).sum())
        assert f"error {error:.2f}" in ax.get_title()
        np.testing.assert_array_equal(dots(ax).get_facecolor(), dots(figure.axes[0]).get_facecolor())


def test_without_the_truth_layouts_stay_and_the_finished_one_gives_the_colours(predicted, stages):
    del predicted.obsm["spatial"]
    figure = coord_progression(predicted, return_fig=True)
    assert names(figure) == PANELS
    finished = stages[-1].astype(float)
    for layout, ax in zip(stages, figure.axes, strict=True):
        np.testing.assert_allclose(dots(ax).get_offsets(), layout)  # prediction has turned them onto each other
        np.testing.assert_allclose(dots(ax).get_facecolor(), position_colors(finished))


def test_progression_on_given_axes_and_in_columns(predicted):
    figure, grid = plt.subplots(1, 6)
    assert coord_progression(predicted, ax=grid, return_fig=True) is figure
    assert names(figure) == ["truth", *PANELS]
    with pytest.raises(ValueError, match="6 panel"):
        coord_progression(predicted, ax=grid[:5])
    new = coord_progression(predicted, n_cols=2, return_fig=True)
    assert new.axes[0].get_gridspec().get_geometry() == (3, 2)


def test_progression_errors_name_the_remedy(predicted):
    predicted.obsm["X_ipar_recycles"] = predicted.obsm["X_ipar_recycles"][:, :3]
    with pytest.raises(ValueError, match=r"shape \(120, 3\).*run ipar\.tl\.predict_coords again"):
        coord_progression(predicted)
    del predicted.obsm["X_ipar_recycles"]
    with pytest.raises(KeyError, match=r"run ipar\.tl\.predict_coords first"):
        coord_progression(predicted)


# colours by position --------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_every_mirror_image_shows_to_every_reader(deficiency):
    axis = np.linspace(-1, 1, 21)
    xy = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    rgb = position_colors(xy)[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(DEFICIENCIES[deficiency]).T, 0, 1) ** (1 / 2.2)
    grid = seen.reshape(21, 21, 3)
    images = {"left-right": grid[:, ::-1], "up-down": grid[::-1], "turned": grid[::-1, ::-1]}
    images["diagonal"] = grid.transpose(1, 0, 2)
    for name, image in images.items():
        assert np.linalg.norm(grid - image, axis=-1).mean() > 0.15, name


def test_neighbours_have_similar_colours_and_stray_cells_do_not_wash_out_the_rest():
    xy = np.random.default_rng(0).uniform(size=(1000, 2))
    step = np.abs(position_colors(xy) - position_colors(np.clip(xy + 0.01, 0, 1))).max()
    assert step < 0.05
    with_stray = position_colors(np.vstack([xy, [[1e4, 1e4]]]))[:-1]
    assert np.abs(with_stray - position_colors(xy)).max() < 0.02
