from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ipar._run import Run
from ipar.metrics import e_geo_minisets, knn_hit, luna_spearman
from ipar.model import Features, Sharpening
from ipar.model.sharpening import sharpen_layout
from ipar.training import FinishRecipe
from ipar.training.finish import choose_sharpening

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
    return choose_sharpening(layout, Features(h, layout), truth, slide_pcs, RECIPE, Run())


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
    product_form = table["knn_hit_20"] / table["e_geo"] * np.exp(20 * table["luna_spearman"])
    assert (product_form.rank() == table["score"].rank()).all()
    best = table.loc[product_form.idxmax()]
    assert finish.sharpening == replace(QUICK, hold=best["hold"], slide_pc_share=best["slide_pc_share"])


def test_the_table_tells_the_scores_of_layouts(slide):
    truth, h = slide
    layout = noisy(truth, 0.1, 4)
    table = choose(layout, h, truth).table
    assert table["e_geo"].iloc[0] == e_geo_minisets(truth, layout).total
    firm = sharpen_layout(layout, Features(h, layout), replace(QUICK, hold=4.0))
    row = table[table["hold"] == 4.0].iloc[0]
    assert row["e_geo"] == e_geo_minisets(truth, firm).total
    assert row["knn_hit_20"] == knn_hit(truth, firm)


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
