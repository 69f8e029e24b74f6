from __future__ import annotations

import numpy as np
import pytest

from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import Sharpening
from ipar.training._fit_finish import WEIGHTS, choose_finish, pick_cells

QUICK = Sharpening(n_steps=60)


@pytest.fixture(scope="module")
def slide():
    rng = np.random.default_rng(0)
    truth = rng.random((220, 2)).astype(np.float32)
    h = np.exp(-np.square(truth[:, None] - rng.random((60, 2))).sum(-1) / 0.03).astype(np.float32)
    return truth, h


def noisy(truth, scale, seed):
    return (truth + np.random.default_rng(seed).normal(scale=scale, size=truth.shape)).astype(np.float32)


def test_an_overview_that_is_better_is_taken_whole(slide):
    truth, h = slide
    finish = choose_finish(noisy(truth, 0.2, 0), h, truth, truth, sharpening=QUICK)
    assert finish.global_weight == 1.0


def test_an_overview_that_means_nothing_gets_the_least(slide):
    truth, h = slide
    finish = choose_finish(
        truth, h, np.random.default_rng(1).random((220, 5), dtype=np.float32), truth, sharpening=QUICK
    )
    assert finish.global_weight == WEIGHTS[0]


def test_sharpening_that_finds_neighbours_is_taken(slide):
    truth, h = slide
    blurred = noisy(truth, 0.1, 2)
    finish = choose_finish(blurred, h, blurred, truth, sharpening=QUICK)
    assert finish.sharpening == QUICK
    assert luna_spearman(truth, finish.layout) == finish.table["luna_spearman"].iloc[-1]
    plain, sharp = finish.table.iloc[-2:].itertuples()
    assert sharp.e_geo < 1.1 * plain.e_geo
    assert sharp.knn_hit_20 > plain.knn_hit_20


def test_sharpening_by_unrelated_cells_is_left_out(slide):
    truth, _ = slide
    unrelated = np.random.default_rng(3).normal(size=(220, 4)).astype(np.float32)
    assert choose_finish(truth, unrelated, truth, truth, sharpening=QUICK).sharpening is None


def test_the_table_says_what_was_tried(slide):
    truth, h = slide
    network = noisy(truth, 0.1, 4)
    table = choose_finish(network, h, network, truth, sharpening=QUICK).table
    assert table["global_weight"].tolist()[: len(WEIGHTS)] == list(WEIGHTS)
    assert (table["reach"].iloc[: len(WEIGHTS)] == 0).all()
    # network and overview are one layout here, so every blend is that layout
    expected = e_geo_minisets(truth, network).total
    np.testing.assert_allclose(table["e_geo"].iloc[: len(WEIGHTS)], expected, rtol=1e-3)


def test_cells_of_large_slides_are_picked():
    assert np.array_equal(pick_cells(300, 0), np.arange(300))
    many = pick_cells(5000, 0)
    assert len(np.unique(many)) == len(many) == 1500
    assert np.array_equal(many, np.sort(many))
