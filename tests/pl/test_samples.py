from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ipar import pl


def test_panels_of_samples(predicted, artist):
    figure = pl.samples(predicted, return_fig=True)
    panels = figure.axes[:4]
    assert [panel.get_title() for panel in panels] == ["uncertainty", "samples of cells", "sample 1", "sample 2"]
    colours = artist(panels[0], "uncertainty").get_array()
    assert colours is None  # drawn as colours, with a bar of its own
    assert figure.axes[4].get_xlabel() == "RMS radii"
    first, second = (artist(panel, f"sample {i + 1}") for i, panel in enumerate(panels[2:]))
    assert np.array_equal(first.get_facecolors(), second.get_facecolors())
    assert not np.allclose(first.get_offsets(), second.get_offsets())


def test_samples_are_turned_as_one_with_the_layout(predicted, artist):
    """Distances between a cell's place and its samples are those of the data: no sample is fitted by itself."""
    panel = pl.samples(predicted, ["c5", "c40"], n_shown=0, return_fig=True).axes[1]
    point = predicted.obsm["X_ipar"]
    drawn = predicted.obsm["X_ipar_samples"].reshape(120, 5, 2)
    scale = None
    for cell in (5, 40):
        place = np.asarray(artist(panel, f"place {cell}").get_offsets())
        cloud = np.asarray(artist(panel, f"cell {cell}").get_offsets())
        assert cloud.shape == (5, 2)
        ratio = np.linalg.norm(cloud - place, axis=1) / np.linalg.norm(drawn[cell] - point[cell], axis=1)
        scale = ratio[0] if scale is None else scale
        assert np.allclose(ratio, scale, rtol=1e-3)


def test_a_layout_in_space_is_drawn_along_its_principal_axes(predicted, artist):
    rng = np.random.default_rng(0)
    predicted.obsm["X_ipar"] = rng.normal(size=(120, 3)) * [1.0, 5.0, 0.1]
    predicted.obsm["X_ipar_samples"] = np.tile(predicted.obsm["X_ipar"], 4)
    panel = pl.samples(predicted, n_shown=1, return_fig=True).axes[2]
    found = np.asarray(artist(panel, "sample 1").get_offsets())
    assert np.allclose(found.std(axis=0), [5, 1], rtol=0.2)


def test_ellipses_lie_at_their_centres_with_their_axes(predicted, artist):
    panel = pl.ellipses(predicted, n_sd=2.0, return_fig=True).axes[0]
    drawn, table = artist(panel, "ellipses"), predicted.obsm["ellipse"]
    assert np.allclose(drawn.get_offsets(), predicted.obsm["spatial"] + table[:, :2])
    panel.figure.canvas.draw()  # sizes are in pixels until then
    assert np.allclose(drawn.get_widths(), 4 * table[:, 2])
    assert np.allclose(drawn.get_heights(), 4 * table[:, 3])
    assert np.allclose(drawn.get_angles(), np.degrees(table[:, 4]))
    left, right = panel.get_xlim()
    assert left < (predicted.obsm["spatial"][:, 0] - 2 * table[:, 2]).min() < right


def test_given_axes_are_used(predicted):
    figure, axes = plt.subplots(1, 4)
    assert pl.samples(predicted, ax=axes, return_fig=True) is figure
    assert pl.ellipses(predicted, "ipar_uncertainty", ax=axes[0], return_fig=True) is figure


def test_samples_of_another_key_are_drawn_with_their_own_uncertainty(predicted, artist):
    for end in ("", "_samples"):
        predicted.obsm[f"X_draws{end}"] = predicted.obsm[f"X_ipar{end}"]
    with pytest.raises(KeyError, match=r"no 'X_draws_uncertainty': run ipar\.tl\.sample_coords first"):
        pl.samples(predicted, use_rep="X_draws")
    predicted.obs["X_draws_uncertainty"] = 1.0 - predicted.obs["ipar_uncertainty"]
    ranks = []
    for use_rep in ("X_ipar", "X_draws"):
        figure = pl.samples(predicted, use_rep=use_rep, return_fig=True)
        ranks.append(artist(figure.axes[0], "uncertainty").get_facecolors())
    assert not np.allclose(*ranks)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ("X_ipar_samples", {}, KeyError, r"no 'X_ipar_samples': run ipar\.tl\.sample_coords first"),
        (None, {"cells": ["c1", "x"]}, KeyError, r"no cells \['x'\]"),
        (None, {"cells": list("abcde")}, ValueError, "at most 4 cells can be drawn, found 5"),
        (None, {"n_shown": 6}, ValueError, "between 0 and the number of samples, 5"),
    ],
)
def test_errors_of_samples(predicted, change, options, error, message):
    if change:
        del predicted.obsm[change]
    with pytest.raises(error, match=message):
        pl.samples(predicted, **options)


def test_errors_of_ellipses(predicted):
    with pytest.raises(ValueError, match=r"shape \(120, 8\), expected \(n_obs, 5\).*project ellipsoids"):
        pl.ellipses(predicted, ellipse_key="X_ipar_recycles")
    del predicted.obsm["ellipse"]
    with pytest.raises(KeyError, match=r"no 'ellipse': run ipar\.pp\.cell_ellipses first"):
        pl.ellipses(predicted)
