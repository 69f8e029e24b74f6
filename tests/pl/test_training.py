from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ipar.pl import history, localisability

TERMS = ["total", "walk", "stress", "gate", "repulsion", "entropy"]

# history --------------------------------------------------------------------------------------------------------------


def test_every_loss_has_its_panel(trained, artist):
    table = trained.uns["ipar"]["history"]
    figure = history(trained, return_fig=True)
    assert len(figure.axes) == 7
    for ax, term in zip(figure.axes[1:], TERMS, strict=True):
        line = artist(ax, term)
        np.testing.assert_array_equal(line.get_xdata(), table["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), table[term])
        assert ax.get_title()


def test_validation_joins_over_epochs_without_it_and_marks_the_best(trained, artist):
    table = trained.uns["ipar"]["history"]
    ax = history(trained, return_fig=True).axes[0]
    for label, column in [("candidates and gate", "val_gated"), ("target edges", "val_target")]:
        line = artist(ax, label)
        np.testing.assert_array_equal(line.get_xdata(), [1, 3, 4, 5])
        np.testing.assert_array_equal(line.get_ydata(), table[column].iloc[[1, 3, 4, 5]])
    value = table["val_gated"].iloc[4]
    star = artist(ax, f"best: epoch 4, {value:.2f}")
    assert star.get_marker() == "*"
    np.testing.assert_allclose(star.get_xydata(), [[4, value]])


def test_the_best_epoch_is_an_epoch_not_a_row(trained, artist):
    trained.uns["ipar"]["history"]["epoch"] += 10
    trained.uns["ipar"]["history_best"] = 13
    table = trained.uns["ipar"]["history"]
    ax = history(trained, return_fig=True).axes[0]
    star = artist(ax, f"best: epoch 13, {table['val_gated'].iloc[3]:.2f}")
    np.testing.assert_allclose(star.get_xydata(), [[13, table["val_gated"].iloc[3]]])


def test_epochs_before_the_full_walk_weight_are_shaded(trained, artist):
    for ax in history(trained, return_fig=True).axes:
        span = artist(ax, "walk weight rises").get_extents().transformed(ax.transData.inverted())
        np.testing.assert_allclose([span.x0, span.x1], [-0.5, 2.5], atol=1e-9)
    trained.uns["ipar"]["history"]["w_rw"] = 0.3
    assert not history(trained, return_fig=True).axes[0].patches


def test_without_validation_it_says_so(trained):
    trained.uns["ipar"]["history"][["val_gated", "val_target"]] = np.nan
    ax = history(trained, return_fig=True).axes[0]
    assert [text.get_text() for text in ax.texts] == ["no validation"]
    assert not ax.lines
    del trained.uns["ipar"]["history_best"]
    history(trained, return_fig=True).canvas.draw()


def test_history_on_given_axes_and_of_chosen_terms(trained, artist):
    figure, ax = plt.subplots()
    assert history(trained, terms=(), ax=ax, return_fig=True) is figure
    assert artist(ax, "target edges")
    assert len(history(trained, terms=["gate"], return_fig=True).axes) == 2
    with pytest.raises(ValueError, match=r"1 object.*7 panel.*validation, total"):
        history(trained, ax=ax)


def test_history_errors_name_the_remedy(trained):
    with pytest.raises(KeyError, match=r"no column \['los'\]"):
        history(trained, terms=["los"])
    trained.uns["ipar"]["history"] = trained.uns["ipar"]["history"].iloc[:0]
    with pytest.raises(ValueError, match=r"no epochs.*ipar\.tl\.fit_ipalite again"):
        history(trained)
    trained.uns.clear()
    with pytest.raises(KeyError, match=r"run ipar\.tl\.fit_ipalite first"):
        history(trained)


# localisability -------------------------------------------------------------------------------------------------------


def test_every_fold_beside_its_control(trained, artist):
    folds = trained.uns["ipar"]["localisability"]["folds"]
    figure = localisability(trained, return_fig=True)
    recall, distance = figure.axes
    assert [tick.get_text() for tick in recall.get_yticklabels()] == list(folds["slide"])
    for ax, measured, control, name in [
        (recall, "recall", "recall_chance", "chance"),
        (distance, "distance_spearman", "permutation_spearman", "permutation"),
    ]:
        np.testing.assert_allclose(artist(ax, "held-out slide").get_offsets(), np.c_[folds[measured], np.arange(3)])
        np.testing.assert_allclose(artist(ax, name).get_offsets(), np.c_[folds[control], np.arange(3)])
        low, high = ax.get_xlim()
        assert low < folds[control].min()
        assert high > folds[measured].max()
        bottom, top = ax.get_ylim()
        assert top < bottom  # the first slide stands on top
    assert [text.get_text() for text in recall.texts] == ["5.0×", "4.0×", "2.5×"]


def test_the_title_gives_the_verdict(trained, artist):
    good = localisability(trained, return_fig=True)
    assert good.get_suptitle().startswith("Localisable")
    assert "3.8× chance" in good.get_suptitle()
    assert "0.55" in good.get_suptitle()
    trained.uns["ipar"]["localisability"]["localisable"] = False
    bad = localisability(trained, return_fig=True)
    assert bad.get_suptitle().startswith("Not localisable: coordinates would mean nothing")
    colors = [to_rgb(artist(one.axes[0], "held-out slide").get_facecolor()[0]) for one in (good, bad)]
    assert colors[0] != colors[1]


def test_localisability_on_given_axes(trained):
    figure, grid = plt.subplots(1, 2)
    assert localisability(trained, ax=grid, return_fig=True) is figure
    assert grid[0].get_title().startswith("Localisable")
    assert figure.get_suptitle() == ""
    with pytest.raises(ValueError, match="2 panel"):
        localisability(trained, ax=grid[0])


def test_localisability_error_names_the_remedy(trained):
    del trained.uns["ipar"]["localisability"]
    with pytest.raises(KeyError, match=r"run ipar\.tl\.fit_ipalite first"):
        localisability(trained)


def test_training_records_survive_a_file(trained, tmp_path):
    trained.write_h5ad(tmp_path / "train.h5ad")
    read = ad.read_h5ad(tmp_path / "train.h5ad")
    assert localisability(read, return_fig=True).get_suptitle().startswith("Localisable")
    assert [ax.get_title() for ax in history(read, return_fig=True).axes][1] == "total loss"
