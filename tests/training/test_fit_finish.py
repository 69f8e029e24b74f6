from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ipar._run import Run
from ipar.metrics import coverage, e_geo_minisets, evenness, knn_hit, luna_spearman
from ipar.model import Features, Sharpening
from ipar.model.sharpening import sharpen_layout
from ipar.training import FinishRecipe
from ipar.training.finish import choose_sharpening, tissue_evenness

QUICK = Sharpening(n_steps=60)
RECIPE = FinishRecipe(sharpening=QUICK)


@pytest.fixture(scope="module")
def slide():
    rng = np.random.default_rng(0)
    truth = rng.random((220, 2)).astype(np.float32)
    h = np.exp(-np.square(truth[:, None] - rng.random((60, 2))).sum(-1) / 0.03).astype(np.float32)
    return truth, h


def rbf(points):
    """Smooth features of positions."""
    centres = np.random.default_rng(8).random((60, 2))
    return np.exp(-np.square(points[:, None] - centres).sum(-1) / 0.03).astype(np.float32)


def noisy(truth, scale, seed):
    return (truth + np.random.default_rng(seed).normal(scale=scale, size=truth.shape)).astype(np.float32)


def choose(layout, h, truth, slide_pcs=None):
    """The choice where the layout stands for the global features."""
    return choose_sharpening(layout, Features(h, layout), truth, slide_pcs, tissue_evenness([truth]), RECIPE, Run())


def test_sharpening_that_finds_neighbours_is_taken(slide):
    truth, h = slide
    finish = choose(noisy(truth, 0.1, 2), h, truth)
    assert finish.sharpening is not None
    chosen = finish.table[finish.table["hold"] == finish.sharpening.hold].iloc[0]
    assert luna_spearman(truth, finish.layout) == chosen["luna_spearman"]
    assert chosen["knn_hit_20"] > finish.table["knn_hit_20"].iloc[0]


def test_sharpening_by_unrelated_cells_is_left_out(slide):
    truth, _ = slide
    unrelated = np.random.default_rng(3).normal(size=(220, 4)).astype(np.float32)
    finish = choose(truth, unrelated, truth)
    assert finish.sharpening is None
    assert np.array_equal(finish.layout, truth)


def test_the_choice_is_the_best_of_the_whole_grid(slide):
    truth, h = slide
    slide_pcs = rbf(noisy(truth, 0.05, 3))
    finish = choose(noisy(truth, 0.1, 4), h, truth, slide_pcs)
    table = finish.table
    settings = list(zip(table["hold"], table["slide_pc_share"], strict=True))
    assert settings == [(np.inf, 0.0), *product(RECIPE.holds, RECIPE.slide_pc_shares)]
    # a second way to the score: of two choices, the better one has the larger product
    uneven = table["evenness"] / evenness(truth)
    found = table["knn_hit_20"] * table["coverage"] / table["e_geo"] / np.maximum(uneven, 1 / uneven)
    product_form = found * np.exp(20 * table["luna_spearman"])
    assert (product_form.rank() == table["score"].rank()).all()
    best = table.loc[product_form.idxmax()]
    settings = {"hold": best["hold"], "slide_pc_share": best["slide_pc_share"], "evenness": evenness(truth)}
    assert finish.sharpening == replace(QUICK, **settings)


def test_the_table_tells_the_scores_of_layouts(slide):
    truth, h = slide
    layout = noisy(truth, 0.1, 4)
    table = choose(layout, h, truth).table
    assert table["e_geo"].iloc[0] == e_geo_minisets(truth, layout).total
    firm = sharpen_layout(layout, Features(h, layout), replace(QUICK, hold=2.0, evenness=evenness(truth)))
    row = table[table["hold"] == 2.0].iloc[0]
    assert row["e_geo"] == e_geo_minisets(truth, firm).total
    assert row["knn_hit_20"] == knn_hit(truth, firm)
    assert row["evenness"] == evenness(firm)
    assert row["coverage"] == coverage(truth, firm)


def test_slide_pcs_that_know_more_neighbours_get_the_larger_share(slide):
    truth, h = slide
    noise = np.random.default_rng(5).normal(size=h.shape).astype(np.float32)
    for embedding, slide_pcs, share in ((noise, h, 0.6), (h, noise, 0.2)):
        finish = choose(noisy(truth, 0.1, 2), embedding, truth, slide_pcs)
        assert finish.sharpening is not None
        assert finish.sharpening.slide_pc_share == share


def test_without_slide_pcs_there_is_no_share_of_them(slide):
    truth, h = slide
    assert choose(noisy(truth, 0.1, 2), h, truth).table["slide_pc_share"].tolist() == [0.0] * 4


def test_features_that_tell_neighbours_exactly_get_a_looser_hold(slide):
    # the same layout, with features that tell neighbours nearly exactly and with some that do so roughly
    truth, _ = slide
    holds = []
    for spread in (0.005, 0.2):
        finish = choose(noisy(truth, 0.05, 2), rbf(noisy(truth, spread, 7)), truth)
        holds.append(np.inf if finish.sharpening is None else finish.sharpening.hold)
    assert holds[0] < holds[1]


def test_the_evenness_to_reach_is_the_mean_of_the_slides():
    rng = np.random.default_rng(9)
    slides = [rng.random((200, 2)), np.array([(x, y) for x in range(15) for y in range(15)], dtype=float)]
    assert tissue_evenness(slides) == pytest.approx((evenness(slides[0]) + evenness(slides[1])) / 2)
    assert np.isfinite(tissue_evenness([rng.random((4, 2))]))


def test_clumps_do_not_win():
    # the same neighbours, ranks and energy: the layout that is as even as the tissue and covers it has the higher score
    scores = {"e_geo": 1.0, "knn_hit_20": 0.2, "luna_spearman": 0.7, "coverage": 0.7, "evenness": 0.1}
    best = RECIPE.score(scores, 0.1)
    for worse in ({"evenness": 0.3}, {"evenness": 0.03}, {"coverage": 0.5}):
        assert RECIPE.score(scores | worse, 0.1) < best
    # a third more neighbours are not worth three times the unevenness
    assert RECIPE.score(scores | {"knn_hit_20": 0.27, "evenness": 0.3}, 0.1) < best


def test_every_sharpening_that_is_tried_is_evened(slide):
    tried = RECIPE.tried(True, 0.15)
    assert tried[0] is None
    assert {how.evenness for how in tried[1:]} == {0.15}
