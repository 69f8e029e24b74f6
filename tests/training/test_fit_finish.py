from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ipar._run import Run
from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import Features, Sharpening
from ipar.training import FinishRecipe
from ipar.training import finish as _fit_finish
from ipar.training.finish import choose_sharpening, rank_shares

QUICK = Sharpening(n_steps=60)
LOOSER = replace(QUICK, hold=0.3)
SHARES = FinishRecipe().shares


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
    recipe = FinishRecipe(sharpening=QUICK)
    return choose_sharpening(layout, Features(h, layout), truth, slide_pcs, recipe, Run())


def test_sharpening_that_finds_neighbours_is_taken(slide):
    truth, h = slide
    finish = choose(noisy(truth, 0.1, 2), h, truth)
    assert finish.sharpening in (QUICK, LOOSER)
    chosen = finish.table.index[finish.table["hold"] == finish.sharpening.hold][0]
    assert luna_spearman(truth, finish.layout) == finish.table["luna_spearman"][chosen]
    plain, sharp = finish.table.iloc[:2].itertuples()
    assert sharp.e_geo < 1.1 * plain.e_geo
    assert sharp.knn_hit_20 > plain.knn_hit_20


def test_sharpening_by_unrelated_cells_is_left_out(slide):
    truth, _ = slide
    unrelated = np.random.default_rng(3).normal(size=(220, 4)).astype(np.float32)
    finish = choose(truth, unrelated, truth)
    assert finish.sharpening is None
    assert np.array_equal(finish.layout, truth)


def test_a_dear_sharpening_is_tried_with_a_firmer_hold(slide, monkeypatch):
    truth, h = slide
    energies = iter([1.0, 1.2, 1.05])  # plain, the default hold, the firmer one
    monkeypatch.setattr(_fit_finish, "e_geo_minisets", lambda *_, **__: SimpleNamespace(total=next(energies)))
    finish = choose(noisy(truth, 0.1, 2), h, truth)
    assert finish.sharpening == replace(QUICK, hold=4.0)
    assert finish.table["hold"].tolist() == [np.inf, 1.0, 4.0]


@pytest.mark.parametrize(("hit", "taken"), [(0.15, False), (0.2, True)])
def test_a_dear_sharpening_must_find_many_more_neighbours(slide, monkeypatch, hit, taken):
    truth, h = slide
    # sharpened at a fifth more E_geo, for which twice the neighbours are asked; a looser hold is no better
    energies, hits = iter([1.0, 1.2, 1.2]), iter([0.1, hit, hit])
    monkeypatch.setattr(_fit_finish, "e_geo_minisets", lambda *_, **__: SimpleNamespace(total=next(energies)))
    monkeypatch.setattr(_fit_finish, "knn_hit", lambda *_, **__: next(hits))
    assert choose(noisy(truth, 0.1, 2), h, truth).sharpening == (QUICK if taken else None)


def test_the_table_says_what_was_tried(slide):
    truth, h = slide
    layout = noisy(truth, 0.1, 4)
    table = choose(layout, h, truth).table
    assert np.isinf(table["hold"].iloc[0])
    assert table["hold"].iloc[1] == QUICK.hold
    assert table["e_geo"].iloc[0] == e_geo_minisets(truth, layout).total


def test_slide_pcs_that_know_more_neighbours_get_the_larger_share(slide):
    truth, h = slide
    noise = np.random.default_rng(5).normal(size=h.shape).astype(np.float32)
    assert rank_shares(noise, h, truth, SHARES)["hit"].is_monotonic_increasing
    assert rank_shares(h, noise, truth, SHARES)["hit"].is_monotonic_decreasing
    finish = choose(noisy(truth, 0.1, 2), noise, truth, h)
    assert finish.sharpening is not None
    assert finish.sharpening.own == SHARES[-1]
    assert finish.neighbors.equals(rank_shares(noise, h, truth, SHARES))


def test_shares_count_true_neighbours(slide):
    truth, h = slide
    table = rank_shares(h, None, truth, SHARES, n_neighbors=7)
    near = np.argsort(cdist(h, h, "cosine") + 9 * np.eye(220), axis=1)[:, :7]
    true = np.argsort(cdist(truth, truth) + 9 * np.eye(220), axis=1)[:, :20]
    assert table["own"].tolist() == [0.0]
    assert table["hit"][0] == pytest.approx(np.mean([np.isin(a, b).mean() for a, b in zip(near, true, strict=True)]))


@pytest.mark.parametrize(("spread", "looser"), [(0.005, True), (0.2, False)])
def test_looser_where_it_finds_more_than_it_costs(slide, spread, looser):
    # the same blurred layout, with features that tell neighbours nearly exactly and with some that do so roughly
    truth, _ = slide
    finish = choose(noisy(truth, 0.2, 2), rbf(noisy(truth, spread, 7)), truth)
    assert (finish.sharpening == LOOSER) == looser
    firm, loose = finish.table.iloc[1:3].itertuples()
    gain, cost = loose.knn_hit_20 / firm.knn_hit_20 - 1, loose.e_geo / firm.e_geo - 1
    assert (gain >= 0.1 and gain >= 5 * cost) == looser
