from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import Sharpening
from ipar.training import _fit_finish
from ipar.training._fit_finish import SHARES, WEIGHTS, choose_finish, pick_cells, rank_shares

QUICK = Sharpening(n_steps=60)
LOOSER = replace(QUICK, hold=0.3)


@pytest.fixture(autouse=True)
def all_minisets(monkeypatch):
    monkeypatch.setattr(_fit_finish, "e_geo_minisets", e_geo_minisets)


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


def test_a_weight_that_is_given_is_kept(slide):
    truth, h = slide
    nothing = np.random.default_rng(1).random((220, 5), dtype=np.float32)
    # at 1 the noise of the overview would be all, at its best the least of it is taken
    finish = choose_finish(truth, h, nothing, truth, global_weight=1.0, sharpening=QUICK)
    assert finish.global_weight == 1.0
    assert set(finish.table["global_weight"]) == {1.0}
    assert luna_spearman(truth, finish.layout) < 0.5


def test_sharpening_that_finds_neighbours_is_taken(slide):
    truth, h = slide
    blurred = noisy(truth, 0.1, 2)
    finish = choose_finish(blurred, h, blurred, truth, sharpening=QUICK)
    assert finish.sharpening in (QUICK, LOOSER)
    chosen = finish.table.index[finish.table["hold"] == finish.sharpening.hold][0]
    assert luna_spearman(truth, finish.layout) == finish.table["luna_spearman"][chosen]
    plain, sharp = finish.table.loc[len(WEIGHTS) - 1 : len(WEIGHTS)].itertuples()
    assert sharp.e_geo < 1.1 * plain.e_geo
    assert sharp.knn_hit_20 > plain.knn_hit_20


def test_sharpening_by_unrelated_cells_is_left_out(slide):
    truth, _ = slide
    unrelated = np.random.default_rng(3).normal(size=(220, 4)).astype(np.float32)
    assert choose_finish(truth, unrelated, truth, truth, sharpening=QUICK).sharpening is None


def test_a_dear_sharpening_is_tried_with_a_firmer_hold(slide, monkeypatch):
    truth, h = slide
    blurred = noisy(truth, 0.1, 2)
    energies = iter([1.0] * len(WEIGHTS) + [1.2, 1.05])  # plain blends, the default hold, the firmer one
    monkeypatch.setattr(_fit_finish, "e_geo_minisets", lambda *_, **__: SimpleNamespace(total=next(energies)))
    finish = choose_finish(blurred, h, blurred, truth, sharpening=QUICK)
    assert finish.sharpening == replace(QUICK, hold=4.0)
    assert finish.table["hold"].tolist()[len(WEIGHTS) :] == [1.0, 4.0]


@pytest.mark.parametrize(("hit", "taken"), [(0.15, False), (0.2, True)])
def test_a_dear_sharpening_must_find_many_more_neighbours(slide, monkeypatch, hit, taken):
    truth, h = slide
    blurred = noisy(truth, 0.1, 2)
    # plain blends; sharpened at a fifth more E_geo, for which twice the neighbours are asked; a looser hold is no better
    energies = iter([1.0] * len(WEIGHTS) + [1.2] * 2)
    hits = iter([0.1] * len(WEIGHTS) + [hit] * 2)
    monkeypatch.setattr(_fit_finish, "e_geo_minisets", lambda *_, **__: SimpleNamespace(total=next(energies)))
    monkeypatch.setattr(_fit_finish, "knn_hit", lambda *_, **__: next(hits))
    assert choose_finish(blurred, h, blurred, truth, sharpening=QUICK).sharpening == (QUICK if taken else None)


def test_the_table_says_what_was_tried(slide):
    truth, h = slide
    network = noisy(truth, 0.1, 4)
    table = choose_finish(network, h, network, truth, sharpening=QUICK).table
    assert table["global_weight"].tolist()[: len(WEIGHTS)] == list(WEIGHTS)
    assert np.isinf(table["hold"].iloc[: len(WEIGHTS)]).all()
    assert table["hold"].iloc[len(WEIGHTS)] == QUICK.hold
    # network and overview are one layout here, so every blend is that layout
    expected = e_geo_minisets(truth, network).total
    np.testing.assert_allclose(table["e_geo"].iloc[: len(WEIGHTS)], expected, rtol=1e-3)


def test_cells_of_large_slides_are_picked():
    assert np.array_equal(pick_cells(300, 0), np.arange(300))
    many = pick_cells(5000, 0)
    assert len(np.unique(many)) == len(many) == 1500
    assert np.array_equal(many, np.sort(many))


def test_components_that_know_more_neighbours_get_the_larger_share(slide):
    truth, h = slide
    noise = np.random.default_rng(5).normal(size=h.shape).astype(np.float32)
    assert rank_shares(noise, h, truth)["hit"].is_monotonic_increasing
    assert rank_shares(h, noise, truth)["hit"].is_monotonic_decreasing
    blurred = noisy(truth, 0.1, 2)
    finish = choose_finish(blurred, noise, blurred, truth, components=h, sharpening=QUICK)
    assert finish.sharpening is not None
    assert finish.sharpening.own == SHARES[-1]
    assert finish.neighbors.equals(rank_shares(noise, h, truth))


def test_shares_count_true_neighbours(slide):
    truth, h = slide
    table = rank_shares(h, None, truth, n_neighbors=7)
    near = np.argsort(cdist(h, h, "cosine") + 9 * np.eye(220), axis=1)[:, :7]
    true = np.argsort(cdist(truth, truth) + 9 * np.eye(220), axis=1)[:, :20]
    assert table["own"].tolist() == [0.0]
    assert table["hit"][0] == pytest.approx(np.mean([np.isin(a, b).mean() for a, b in zip(near, true, strict=True)]))


@pytest.mark.parametrize(("spread", "looser"), [(0.005, True), (0.2, False)])
def test_looser_where_it_finds_more_than_it_costs(slide, spread, looser):
    # the same blurred layout, with features that tell neighbours nearly exactly and with some that do so roughly
    truth, _ = slide
    blurred, features = noisy(truth, 0.2, 2), rbf(noisy(truth, spread, 7))
    finish = choose_finish(blurred, features, blurred, truth, sharpening=QUICK)
    assert (finish.sharpening == LOOSER) == looser
    firm, loose = finish.table.iloc[len(WEIGHTS) : len(WEIGHTS) + 2].itertuples()
    gain, cost = loose.knn_hit_20 / firm.knn_hit_20 - 1, loose.e_geo / firm.e_geo - 1
    assert (gain >= 0.1 and gain >= 5 * cost) == looser


def test_a_third_layout_takes_part_by_its_share(slide):
    truth, h = slide
    far_off = np.random.default_rng(1).random((220, 2), dtype=np.float32)
    alone = choose_finish(truth, h, truth, truth, global_weight=0.5, sharpening=QUICK).table
    whole = choose_finish(
        far_off, h, far_off, truth, flow=truth, flow_weight=1.0, global_weight=0.5, sharpening=QUICK
    ).table
    assert whole.iloc[0].to_dict() == pytest.approx(alone.iloc[0].to_dict(), rel=1e-3, abs=1e-3)
    spearman = [
        choose_finish(truth, h, truth, truth, flow=far_off, flow_weight=w, global_weight=0.5, sharpening=QUICK)
        .table["luna_spearman"]
        .iloc[0]
        for w in (0.0, 0.5, 1.0)
    ]
    assert spearman[0] == pytest.approx(alone["luna_spearman"].iloc[0], abs=1e-6)
    assert spearman[0] > spearman[1] > spearman[2]
