from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from sklearn.neighbors import NearestNeighbors

from ipar.pl import attention_focus

R, H = 3, 2


def as_rows(xy):
    """Points as a set, whatever their order."""
    return {tuple(np.round(np.asarray(one, dtype=float), 6)) for one in xy}


def panels(figure):
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def record_of(adata, i):
    found = {key: value[i] for key, value in adata.uns["ipar"]["attention"].items()}
    rows = {name: row for row, name in enumerate(adata.obs_names)}  # another way to look names up
    return found | {"query": rows[found["query"]], "cells": np.array([rows[name] for name in found["cells"]])}


@pytest.fixture(scope="module")
def figures(untouched):
    return attention_focus(untouched, return_fig=True)


def test_one_figure_a_query_with_recycles_by_heads(untouched, figures):
    assert len(figures) == 4
    for figure, name in zip(figures, ["c5", "c40", "c77", "c110"], strict=True):
        assert name in figure.get_suptitle()
        assert "true positions" in figure.get_suptitle()
        axes = panels(figure)
        assert len(axes) == R * H
        assert len(figure.axes) == R * H + 1  # and one colour bar
        assert [ax.get_title() for ax in axes] == ["head 1", "head 2", "", "", "", ""]
        assert [ax.get_ylabel() for ax in axes] == ["recycle 1", "", "recycle 2", "", "recycle 3", ""]
        assert all(ax.get_aspect() == 1.0 for ax in axes)


def test_star_rings_and_greys_are_the_right_cells(untouched, figures, artist):
    truth = untouched.obsm["spatial"]
    for i, figure in enumerate(figures):
        record = record_of(untouched, i)
        here, pass_xy = truth[record["query"]], truth[record["cells"]]
        _, nearest = NearestNeighbors(n_neighbors=21).fit(pass_xy).kneighbors(here[None])  # the first is the query
        for ax in panels(figure):
            star = artist(ax, "query")
            np.testing.assert_allclose(star.get_offsets(), here[None])
            assert to_rgb(star.get_facecolor()[0]) == to_rgb("#E31A1C")
            rings = artist(ax, "true neighbours")
            assert as_rows(rings.get_offsets()) == as_rows(pass_xy[nearest[0, 1:]])
            assert rings.get_facecolor().size == 0  # hollow, so that shape tells them apart as well as colour
            red, green, blue = rings.get_edgecolor()[0, :3]
            assert green > max(red, blue)
            assert rings.get_sizes()[0] > artist(ax, "candidates").get_sizes()[0]
            rest = ~record["candidates"] & (record["cells"] != record["query"])
            greys = artist(ax, "not a candidate")
            assert as_rows(greys.get_offsets()) == as_rows(pass_xy[rest])
            assert np.ptp(greys.get_facecolor()[0, :3]) == 0


def test_candidates_carry_their_weights_on_one_colour_scale(untouched, figures, artist):
    for i, figure in enumerate(figures):
        record = record_of(untouched, i)
        dots = [artist(ax, "candidates") for ax in panels(figure)]
        for place, dot in enumerate(dots):
            weights = record["weights"][place // H, place % H]
            at = {tuple(np.round(xy, 6)): weight for xy, weight in zip(dot.get_offsets(), dot.get_array(), strict=True)}
            assert len(at) == record["candidates"].sum()
            for cell, weight, candidate in zip(record["cells"], weights, record["candidates"], strict=True):
                key = tuple(np.round(untouched.obsm["spatial"][cell], 6))
                assert (key in at) == candidate
                assert not candidate or at[key] == pytest.approx(weight)
            assert (np.diff(dot.get_array()) >= 0).all()  # the most attended lie on top
            assert dot.norm is dots[0].norm
        np.testing.assert_allclose(dots[0].cmap(1.0), colormaps["YlOrRd"](1.0))
        assert dots[0].norm.vmin == 0


def test_lines_join_the_query_to_its_top_five_by_weight(untouched, figures, artist):
    truth = untouched.obsm["spatial"]
    for i, figure in enumerate(figures):
        record = record_of(untouched, i)
        width_per_weight = []
        for place, ax in enumerate(panels(figure)):
            weights = record["weights"][place // H, place % H]
            top = sorted(range(len(weights)), key=lambda j: weights[j], reverse=True)[:5]
            lines = artist(ax, "top")
            segments = lines.get_segments()
            assert len(segments) == 5
            np.testing.assert_allclose([one[0] for one in segments], np.tile(truth[record["query"]], (5, 1)))
            np.testing.assert_allclose([one[1] for one in segments], truth[record["cells"][top]])
            width_per_weight.extend(lines.get_linewidths() / weights[top])
        np.testing.assert_allclose(width_per_weight, width_per_weight[0], rtol=1e-5)


@pytest.mark.parametrize("how", ["key absent", "key None", "a cell of the pass unknown"])
def test_without_the_truth_the_prediction_is_drawn_without_rings(predicted, how, artist):
    if how == "key absent":
        del predicted.obsm["spatial"]
    elif how != "key None":
        predicted.obsm["spatial"][record_of(predicted, 0)["cells"][3]] = np.nan
    key = None if how == "key None" else "spatial"
    (figure,) = attention_focus(predicted, 5, spatial_key=key, return_fig=True)
    assert "predicted positions" in figure.get_suptitle()
    for ax in panels(figure):
        np.testing.assert_allclose(artist(ax, "query").get_offsets()[0], predicted.obsm["X_ipar"][5], rtol=1e-6)
        assert "true neighbours" not in [one.get_label() for one in ax.get_children()]


def test_recycles_and_heads_are_numbered_as_labelled(untouched, figures, artist):
    (figure,) = attention_focus(untouched, "c40", recycles=[3, 1], heads=2, return_fig=True)
    axes = panels(figure)
    assert [ax.get_ylabel() for ax in axes] == ["recycle 3", "recycle 1"]
    assert axes[0].get_title() == "head 2"
    full = panels(figures[1])
    for ax, twin in zip(axes, [full[5], full[1]], strict=True):
        np.testing.assert_array_equal(artist(ax, "candidates").get_array(), artist(twin, "candidates").get_array())


def test_crop_holds_candidates_and_neighbours_and_no_crop_holds_all(predicted, artist):
    predicted.obsm["spatial"][record_of(predicted, 0)["cells"][~record_of(predicted, 0)["candidates"]][:2]] = 5000.0
    for crop in (True, False):
        (figure,) = attention_focus(predicted, 5, crop=crop, return_fig=True)
        ax = panels(figure)[0]
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()

        def inside(label, ax=ax, low=(left, bottom), high=(right, top)):
            xy = artist(ax, label).get_offsets()
            return ((xy >= low) & (xy <= high)).all()

        assert inside("candidates")
        assert inside("true neighbours")
        assert inside("query")
        assert inside("not a candidate") == (not crop)


def test_fewer_attended_candidates_than_lines(predicted, artist):
    attention = predicted.uns["ipar"]["attention"]
    attention["candidates"][0] = False
    attention["weights"][0] = 0
    two = np.flatnonzero(attention["cells"][1] != "c40")[:2]
    attention["candidates"][1] = False
    attention["candidates"][1, two] = True
    attention["weights"][1] = 0
    attention["weights"][1][..., two] = [0.25, 0.75]
    nobody, pair = attention_focus(predicted, [5, 40], return_fig=True)
    assert all(len(artist(ax, "top").get_segments()) == 0 for ax in panels(nobody))
    assert all(len(artist(ax, "top").get_segments()) == 2 for ax in panels(pair))
    for figure in (nobody, pair):
        figure.canvas.draw()


def test_weight_outside_the_candidates_is_not_drawn(predicted, artist):
    attention = predicted.uns["ipar"]["attention"]
    outside = np.flatnonzero(~attention["candidates"][0])
    attention["weights"][0][..., outside] = 9.0
    (figure,) = attention_focus(predicted, 5, return_fig=True)
    ends = as_rows(segment[1] for segment in artist(panels(figure)[0], "top").get_segments())
    record = record_of(predicted, 0)
    assert ends <= as_rows(predicted.obsm["spatial"][record["cells"][record["candidates"]]])


def test_draws_on_given_axes_without_figure_furniture(predicted, artist):
    figure, grid = plt.subplots(1, 2)
    (returned,) = attention_focus(predicted, 77, recycles=3, ax=grid, return_fig=True)
    assert returned is figure
    assert figure.axes == list(grid)
    assert figure.get_suptitle() == ""
    assert not figure.legends
    assert len(artist(grid[1], "top").get_segments()) == 5
    with pytest.raises(ValueError, match="1 object.*2 panel"):
        attention_focus(predicted, 77, recycles=3, ax=grid[0])
    with pytest.raises(ValueError, match="pass query="):
        attention_focus(predicted, recycles=3, ax=grid)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda a: a.uns.clear(), KeyError, r"run ipar\.tl\.predict_coords first"),
        (lambda a: a.uns["ipar"]["attention"].pop("cells"), KeyError, "lacks.*cells"),
        (
            lambda a: a.uns["ipar"]["attention"].update(query=np.array(["c5"] * 3, dtype=object)),
            ValueError,
            r"'query' has shape \(3,\)",
        ),
        (
            lambda a: a.uns["ipar"]["attention"].update(query=np.full(4, "c119", dtype=object)),
            ValueError,
            "own pass|not among",
        ),
        (lambda a: a.uns["ipar"]["attention"].update(cells=np.empty((0, 0))), ValueError, "no attention was stored"),
    ],
)
def test_unusable_records_name_the_remedy(predicted, change, error, match):
    if match == "own pass|not among":
        predicted.uns["ipar"]["attention"]["cells"][predicted.uns["ipar"]["attention"]["cells"] == "c119"] = "c0"
    change(predicted)
    with pytest.raises(error, match=match):
        attention_focus(predicted)


def offsets(figures, artist):
    return [as_rows(artist(ax, "candidates").get_offsets()) for figure in figures for ax in panels(figure)]


def test_sorted_cells_are_drawn_where_they_are(predicted, figures, artist):
    moved = predicted[np.random.default_rng(0).permutation(predicted.n_obs)].copy()
    again = attention_focus(moved, ["c5", "c40", "c77", "c110"], return_fig=True)
    assert [one.get_suptitle() for one in again] == [one.get_suptitle() for one in figures]
    assert offsets(again, artist) == offsets(figures, artist)


def test_of_a_subset_the_cells_that_are_there_are_drawn_and_the_others_told_of(predicted, artist):
    part = predicted[:60].copy()
    with pytest.warns(UserWarning, match=r"of 80 cells that the network read with 'c5' are not in adata"):
        first, second = attention_focus(part, return_fig=True)
    assert ("c5 " in first.get_suptitle(), "c40 " in second.get_suptitle()) == (True, True)
    there = as_rows(part.obsm["spatial"])
    assert all(one <= there for one in offsets([first, second], artist))
    with (
        pytest.warns(UserWarning, match="not in adata"),
        pytest.raises(ValueError, match="no attention is stored for the query 'c77'"),
    ):
        attention_focus(part, "c77")


def test_cells_of_which_none_is_there_are_told_of(predicted):
    predicted.obs_names = [f"other{i}" for i in range(predicted.n_obs)]
    with pytest.raises(ValueError, match="none of the cells whose attention is stored, c5, c40.*Run ipar.tl.predict"):
        attention_focus(predicted)


def test_rows_of_an_older_version_are_not_taken_for_names(predicted):
    stored = predicted.uns["ipar"]["attention"]
    stored |= {"query": np.array([5, 40, 77, 110]), "cells": np.tile([5, 40, 77, 110], (4, 20))}
    with pytest.raises(ValueError, match="older ipar.*again"):
        attention_focus(predicted)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"query": 6}, r"query 6.*5 \(c5\)"),
        ({"query": "c6"}, "query 'c6'"),
        ({"query": []}, "query is empty"),
        ({"recycles": 0}, r"recycles \[0\].*from 1 to 3"),
        ({"recycles": 4}, "from 1 to 3"),
        ({"heads": [1, 3]}, r"heads \[3\].*from 1 to 2"),
        ({"heads": []}, "heads is empty"),
    ],
)
def test_unknown_choices_are_named(predicted, options, match):
    with pytest.raises(ValueError, match=match):
        attention_focus(predicted, **options)


def test_record_survives_a_file(predicted, tmp_path, artist):
    import anndata as ad

    predicted.write_h5ad(tmp_path / "cells.h5ad")
    (figure,) = attention_focus(ad.read_h5ad(tmp_path / "cells.h5ad"), 5, return_fig=True)
    (twin,) = attention_focus(predicted, 5, return_fig=True)
    for ax, other in zip(panels(figure), panels(twin), strict=True):
        np.testing.assert_array_equal(artist(ax, "candidates").get_offsets(), artist(other, "candidates").get_offsets())
