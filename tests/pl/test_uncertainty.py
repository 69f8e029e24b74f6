from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.stats import spearmanr

from ipar.pl import uncertainty


def error_of(adata):
    """Distances from the truth after Procrustes, in RMS radii, the textbook way."""
    truth, found, _ = procrustes(adata.obsm["spatial"], adata.obsm["X_ipar"])
    return np.linalg.norm(truth - found, axis=1) * adata.n_obs**0.5


def test_layout_lies_on_the_truth_and_is_coloured_by_doubt(predicted, artist):
    figure = uncertainty(predicted, return_fig=True)
    cloud = artist(figure.axes[0], "prediction")
    doubt = predicted.obs["ipar_uncertainty"].to_numpy()
    order = np.argsort(-doubt, kind="stable")  # the surest on top
    truth, found, _ = procrustes(predicted.obsm["spatial"], predicted.obsm["X_ipar"])
    scale = np.linalg.norm(predicted.obsm["spatial"] - predicted.obsm["spatial"].mean(0))
    residual = np.linalg.norm((predicted.obsm["spatial"][order] - cloud.get_offsets()) / scale, axis=1)
    np.testing.assert_allclose(residual, np.linalg.norm(truth - found, axis=1)[order], atol=1e-6)
    luminance = cloud.get_facecolors()[:, :3] @ [0.299, 0.587, 0.114]  # viridis rises with the value
    inside = (doubt[order] > np.percentile(doubt, 1)) & (doubt[order] < np.percentile(doubt, 99))
    assert spearmanr(luminance[inside], doubt[order][inside]).statistic > 0.999
    assert len(figure.axes) == 3  # layout, error, colour bar


def test_error_against_doubt(predicted, artist):
    ax = uncertainty(predicted, return_fig=True).axes[1]
    points = artist(ax, "cells").get_offsets()
    doubt, error = predicted.obs["ipar_uncertainty"].to_numpy(), error_of(predicted)
    np.testing.assert_allclose(points[:, 0], doubt)
    np.testing.assert_allclose(points[:, 1], error, atol=1e-5)
    assert f"{spearmanr(doubt, error).statistic:.2f}" in ax.get_title()
    half = np.sort(doubt)[59]
    assert f"× {error[doubt <= half].mean() / error.mean():.2f}" in ax.get_title()
    assert artist(ax, "median").get_xdata().min() >= doubt.min()


def test_without_truth_the_layout_alone(predicted):
    del predicted.obsm["spatial"]
    figure = uncertainty(predicted, return_fig=True)
    assert len(figure.axes) == 2  # and the colour bar
    cloud = figure.axes[0].collections[0]
    assert {tuple(row) for row in np.round(cloud.get_offsets(), 5)} == {
        tuple(row) for row in np.round(predicted.obsm["X_ipar"].astype(float), 5)
    }


def test_other_columns_and_axes(predicted):
    predicted.obs["spread"] = 2 * predicted.obs["ipar_uncertainty"]
    axes = plt.subplots(1, 2)[1]
    uncertainty(predicted, "spread", ax=axes)
    assert axes[1].get_xlabel() == "spread"
    assert len(axes[0].figure.axes) == 2  # no colour bar on given axes


def test_a_layout_is_drawn_with_its_own_uncertainty(predicted):
    predicted.obsm["X_other"] = predicted.obsm["X_ipar"].copy()
    with pytest.raises(KeyError, match="no 'X_other_uncertainty'"):
        uncertainty(predicted, use_rep="X_other")
    predicted.obs["X_other_uncertainty"] = 1.0 + predicted.obs["ipar_uncertainty"]
    axes = uncertainty(predicted, use_rep="X_other", return_fig=True).axes
    assert axes[1].get_xlabel() == "X_other_uncertainty"
    assert uncertainty(predicted, return_fig=True).axes[1].get_xlabel() == "ipar_uncertainty"


def test_cells_without_a_value_are_left_out(predicted, artist):
    predicted.obs.iloc[:7, predicted.obs.columns.get_loc("ipar_uncertainty")] = np.nan
    assert len(artist(uncertainty(predicted, return_fig=True).axes[1], "cells").get_offsets()) == 113


def test_errors(predicted):
    with pytest.raises(KeyError, match=r"no 'doubt', found \['slide', .*: predict with uncertainty first"):
        uncertainty(predicted, "doubt")
    with pytest.raises(ValueError, match="must hold numbers, found dtype category"):
        uncertainty(predicted, "slide")
    with pytest.raises(ValueError, match=r"has 1 object\(s\).*2 panel\(s\) \(layout, error\)"):
        uncertainty(predicted, ax=plt.subplots()[1])
