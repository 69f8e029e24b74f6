"""Heat maps of diagnostics, and the bars of the gap."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ipar.pl import diagnostics, gap

PER_HEAD = ["attention_recall", "head_diversity", "logit_std", "attention_entropy", "rho_qk", "rho_gate"]


def panel(adata, measure, **options):
    (ax,) = diagnostics(adata, [measure], return_fig=True, **options).axes
    return ax


def mean_grid(table, measure, slide=None):
    """Values in loops, recycles × heads."""
    own = table[(table["measure"] == measure) & ((table["slide"] == slide) if slide else True)]
    heads = sorted(own["head"].unique())
    return np.array([[own[(own.recycle == r) & (own["head"] == h)].value.mean() for h in heads] for r in range(1, 6)])


def frames(ax):
    return {
        (round(one.get_y() + 0.46), round(one.get_x() + 0.46)) for one in ax.patches if one.get_label() == "unhealthy"
    }


def set_values(adata, measure, values):
    table = adata.uns["ipar"]["diagnostics"]
    for slide in ("one", "two"):
        where = (table["measure"] == measure) & (table["slide"] == slide)
        table.loc[where, "value"] = np.ravel(values)


def test_one_heat_map_a_measure_with_its_figures(trained):
    figure = diagnostics(trained, return_fig=True)
    table = trained.uns["ipar"]["diagnostics"]
    assert len(figure.axes) == len(PER_HEAD) + 1
    for measure in [*PER_HEAD, "displacement"]:
        ax = panel(trained, measure)
        expected = mean_grid(table, measure)
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert [float(text.get_text()) for text in ax.texts] == pytest.approx(
            expected.ravel(), abs=0.00051 if measure == "displacement" else 0.0051
        )
        assert [label.get_text() for label in ax.get_yticklabels()] == list("12345")
        heads = ["all"] if measure == "displacement" else list("1234")
        assert [label.get_text() for label in ax.get_xticklabels()] == heads


def test_one_slide_or_the_mean_of_all(trained):
    table = trained.uns["ipar"]["diagnostics"]
    ax = panel(trained, "rho_qk", slide="two")
    np.testing.assert_allclose(ax.images[0].get_array(), mean_grid(table, "rho_qk", "two"))
    with pytest.raises(KeyError, match=r"no slide 'three': pass one of \['one', 'two'\]"):
        diagnostics(trained, slide="three")


def test_frames_are_round_what_is_not_healthy(trained):
    recall = np.full((5, 4), 0.6)
    recall[1, 2] = recall[4, 0] = 0.39
    set_values(trained, "attention_recall", recall)
    assert frames(panel(trained, "attention_recall")) == {(1, 2), (4, 0)}
    spread = np.full((5, 4), 6.0)
    spread[0, 0], spread[0, 1] = 1.0, 300.0
    set_values(trained, "logit_std", spread)
    ax = panel(trained, "logit_std")
    assert frames(ax) == {(0, 0), (0, 1)}
    assert "healthy 4 to 8" in ax.get_title()
    assert "300" in [text.get_text() for text in ax.texts]
    set_values(trained, "displacement", [0.2, 0.1, 0.15, 0.07, 0.07])
    assert frames(panel(trained, "displacement")) == {(2, 0)}  # the one that rises
    assert not frames(panel(trained, "rho_qk"))


def test_correlations_have_a_colour_scale_around_zero(trained):
    image = panel(trained, "rho_gate").images[0]
    assert image.get_clim() == (-1, 1)


def test_the_title_has_chance_and_gate_where_the_truth_is_known(trained):
    table = trained.uns["ipar"]["diagnostics"]
    value = table[table["measure"] == "gate_recall"]["value"].mean()
    assert f"gate recall@30 {value:.2f}" in diagnostics(trained, return_fig=True).get_suptitle()
    blind = table[~table["measure"].str.contains("recall|precision")]
    trained.uns["ipar"]["diagnostics"] = blind
    figure = diagnostics(trained, return_fig=True)
    assert "no true coordinates" in figure.get_suptitle()
    assert len(figure.axes) == len(PER_HEAD)


def test_errors(trained):
    with pytest.raises(KeyError, match=r"no heat map of \['gate_recall'\]: pass measures from \['attention_recall'"):
        diagnostics(trained, ["gate_recall"])
    with pytest.raises(KeyError, match="no heat map of nothing"):
        diagnostics(trained, [])
    with pytest.raises(ValueError, match=r"has 2 panel\(s\) \(rho_qk, logit_std\)"):
        diagnostics(trained, ["rho_qk", "logit_std"], ax=plt.subplots()[1])
    del trained.uns["ipar"]["diagnostics"]
    with pytest.raises(KeyError, match="run ipar.tl.attention_diagnostics first"):
        diagnostics(trained)


# gap ------------------------------------------------------------------------------------------------------------------


def test_bars_are_the_means_over_minisets(trained, artist):
    table = trained.uns["ipar"]["gap"]
    for slide, own in ((None, table), ("two", table[table["slide"] == "two"])):
        (ax,) = gap(trained, slide=slide, return_fig=True).axes
        bars = list(ax.patches)
        means = own.groupby("condition", sort=False)["e_geo"].mean()
        np.testing.assert_allclose([bar.get_width() for bar in bars], means)
        assert [float(text.get_text()) for text in ax.texts] == pytest.approx(means.tolist(), abs=0.0051)
        assert len(ax.get_yticklabels()) == 6
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the true graph on top
    with pytest.raises(KeyError, match="has no slide 'three'"):
        gap(trained, slide="three")
    del trained.uns["ipar"]["gap"]
    with pytest.raises(KeyError, match="run ipar.tl.decompose_gap first"):
        gap(trained)


def test_every_miniset_is_a_dot(trained):
    table = trained.uns["ipar"]["gap"]
    ax = plt.subplots()[1]
    gap(trained, ax=ax)
    dots = np.concatenate([one.get_offsets()[:, 0] for one in ax.collections if len(one.get_offsets()) == 6])
    np.testing.assert_allclose(np.sort(dots), np.sort(table["e_geo"]))
