from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from ipar._run import Run
from ipar.graph.nearest import nearest
from ipar.metrics import coverage, evenness, knn_hit, procrustes_error
from ipar.model import Features, Sharpening
from ipar.model.evening import Evening
from ipar.model.sharpening import fused_nearest, sharpen_layout
from ipar.model.slide_pcs import unit_rows


@pytest.fixture(scope="module")
def tissue():
    """True positions, an embedding that knows neighbours well, and a layout that is right only in the large."""
    rng = np.random.default_rng(0)
    truth = rng.random((400, 2))
    centres = rng.random((80, 2))
    h = np.exp(-np.square(truth[:, None] - centres).sum(-1) / 0.02)
    layout = truth + rng.normal(scale=0.08, size=truth.shape)
    return truth, h.astype(np.float32), layout.astype(np.float32)


def sharpened(layout, h, sharpening, slide_pcs=None, seed=0):
    """The layout stands for the global features, so that it is held as it is."""
    return sharpen_layout(layout, Features(h, layout), sharpening, slide_pcs, Run(seed))


def test_more_neighbours_and_the_same_map(tissue):
    truth, h, layout = tissue
    sharp = sharpened(layout, h, Sharpening())
    assert knn_hit(truth, sharp) > 1.08 * knn_hit(truth, layout)
    assert procrustes_error(truth, sharp).rmse < 1.02 * procrustes_error(truth, layout).rmse
    assert sharp.shape == (400, 2)
    assert sharp.dtype == np.float32
    np.testing.assert_allclose(sharp.mean(0), 0, atol=1e-5)
    assert np.square(sharp).sum(1).mean() == pytest.approx(1, abs=1e-4)


def test_a_looser_hold_changes_more(tissue):
    _, h, layout = tissue
    change = [procrustes_error(layout, sharpened(layout, h, Sharpening(hold=hold))).rmse for hold in (1.0, 4.0, 16.0)]
    assert change == sorted(change, reverse=True)


def test_what_is_held_firmly_does_not_move(tissue):
    _, h, layout = tissue
    held = sharpened(layout, h, Sharpening(hold=1e4))
    assert procrustes_error(layout, held).rmse < 0.02


def test_unrelated_cells_are_not_drawn_together(tissue):
    # two clumps of the layout that share no neighbour in the embedding stay apart
    truth, h, _ = tissue
    h = np.concatenate([h, -h])
    layout = np.concatenate([truth, truth + [3.0, 0.0]]).astype(np.float32)
    sharp = sharpened(layout, h, Sharpening(0.8, 1.0))
    gap = np.linalg.norm(sharp[:400].mean(0) - sharp[400:].mean(0))
    assert gap > 1.8  # of the 1.94 RMS radii before
    assert np.median(pdist(sharp[:400])) < gap


def test_it_repeats_and_leaves_the_global_seed(tissue):
    _, h, layout = tissue
    before, state = layout.copy(), torch.get_rng_state()
    quick = replace(Sharpening(), n_steps=20)
    first, again, other = (sharpened(layout, h, quick, seed=s) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(layout, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("n", [4, 20])
def test_small_and_coincident_sets(n):
    rng = np.random.default_rng(0)
    h = rng.normal(size=(n, 5)).astype(np.float32)
    for layout in (rng.normal(size=(n, 2)), np.zeros((n, 2)), np.repeat(rng.normal(size=(n // 2, 2)), 2, axis=0)):
        for target in (None, 0.05):
            how = Sharpening(n_steps=10, evenness=target)
            assert np.isfinite(sharpened(layout.astype(np.float32), h, how)).all()


def test_what_was_taught_distances_has_a_say(tissue):
    truth, h, layout = tissue
    far = np.column_stack([truth, np.zeros((400, 3))]).astype(np.float32) * 7  # in units of its own
    better = sharpen_layout(layout, Features(h, far), Sharpening(hold=100.0, global_share=0.5))
    assert procrustes_error(truth, better).rmse < 0.8 * procrustes_error(truth, layout).rmse
    halfway = (pdist(layout) / pdist(layout).mean() + pdist(truth) / pdist(truth).mean()) / 2
    assert np.corrcoef(pdist(better), halfway)[0, 1] > 0.99


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_neighbours_are_those_of_the_weighted_mean_of_two_distances(share):
    rng = np.random.default_rng(5)
    h, own = rng.normal(size=(30, 4)).astype(np.float32) * 9, rng.normal(size=(30, 7)).astype(np.float32)
    mean = squareform((1 - share) * pdist(h, "cosine") + share * pdist(own, "cosine"))
    np.fill_diagonal(mean, np.inf)
    found = fused_nearest(nearest(h, 29), unit_rows(own), share, 6, n_rows=7)
    np.testing.assert_array_equal(found.index, np.argsort(mean, axis=1)[:, :6])
    np.testing.assert_allclose(found.distance, np.sort(mean, axis=1)[:, :6], atol=1e-5)


def test_fused_neighbours_are_sought_among_the_nearest_in_the_embedding():
    rng = np.random.default_rng(6)
    h, own = (rng.normal(size=(50, 5)).astype(np.float32) for _ in range(2))
    near = nearest(h, 10)
    found = fused_nearest(near, unit_rows(own), 1.0, 10)
    assert (np.sort(found.index, axis=1) == np.sort(near.index, axis=1)).all()
    assert (np.diff(found.distance, axis=1) >= 0).all()


def test_a_slides_own_components_make_neighbours(tissue):
    truth, h, layout = tissue
    noise = np.random.default_rng(6).normal(size=h.shape).astype(np.float32)
    how = Sharpening(slide_pc_share=0.8)
    alone, helped = sharpened(layout, noise, how), sharpened(layout, noise, how, slide_pcs=unit_rows(h))
    assert knn_hit(truth, helped) > 1.2 * knn_hit(truth, alone)


def test_the_push_keeps_cells_apart(tissue):
    # without it neighbours fall into clumps
    _, h, layout = tissue
    nearest = [
        np.partition(squareform(pdist(sharpened(layout, h, Sharpening(push=push, hold=0.3)))), 1, axis=1)[:, 1]
        for push in (1.0, 10.0)
    ]
    assert np.median(nearest[1]) > 1.5 * np.median(nearest[0])


def test_fewer_pairs_push_as_much(tissue):
    # of large samples not all pairs are drawn: what is drawn stands for the rest
    _, h, layout = tissue
    all_pairs = sharpened(layout, h, Sharpening())
    fewer = sharpened(layout, h, Sharpening(most_pairs=500))
    nearest = [np.median(np.partition(squareform(pdist(x)), 1, axis=1)[:, 1]) for x in (all_pairs, fewer)]
    assert nearest[1] == pytest.approx(nearest[0], rel=0.15)
    assert procrustes_error(all_pairs, fewer).rmse < 0.1


def test_components_that_are_empty_need_not_be_held(tissue):
    # global features of three dimensions, turned in twenty: three components are all there is
    _, h, layout = tissue
    rng = np.random.default_rng(3)
    turned = (rng.normal(size=(len(h), 3)) @ np.linalg.qr(rng.normal(size=(20, 20)))[0][:3]).astype(np.float32)
    few, all_of_them, one = (
        sharpen_layout(layout, Features(h, turned), Sharpening(n_steps=20, held_dims=dims)) for dims in (3, 20, 1)
    )
    np.testing.assert_allclose(few, all_of_them, atol=1e-3)
    assert np.abs(one - all_of_them).max() > 0.01


@pytest.fixture(scope="module")
def torn():
    """A tissue like an array of spots, and features so blurred that cells draw together in clumps."""
    rng = np.random.default_rng(0)
    truth = np.array([(x, y) for x in range(24) for y in range(24)]) / 24 + rng.normal(scale=0.004, size=(576, 2))
    seen = truth + rng.normal(scale=0.06, size=truth.shape)
    h = np.exp(-np.square(seen[:, None] - rng.random((80, 2))).sum(-1) / 0.02).astype(np.float32)
    layout = (0.5 + 0.8 * (truth - 0.5) + rng.normal(scale=0.06, size=truth.shape)).astype(np.float32)
    return truth, h, layout


def test_the_layout_becomes_as_even_as_the_tissue_and_keeps_its_neighbours(torn):
    truth, h, layout = torn
    before, after = (sharpened(layout, h, Sharpening(hold=0.6, evenness=aim)) for aim in (None, evenness(truth)))
    assert evenness(before) > 1.6 * evenness(truth)
    assert evenness(after) < 1.25 * evenness(truth)
    assert knn_hit(truth, after) > 0.92 * knn_hit(truth, before)
    assert coverage(truth, after) > coverage(truth, before)


def test_a_layout_is_not_made_more_even_than_the_tissue(torn):
    truth, h, layout = torn
    rough, aimed, fine = (evenness(sharpened(layout, h, Sharpening(evenness=aim))) for aim in (None, 0.2, 0.05))
    assert fine < aimed < rough
    assert aimed == pytest.approx(0.2, abs=0.03)


def energy(x, how, target):
    return Evening(how, target, torch.Generator().manual_seed(0))(x, 0)


def test_the_energy_is_that_of_its_definition(torn):
    # every cell of a small set is spread: the places drawn stand for all in the mean
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(12, 2)).astype(np.float32))
    how = Sharpening(spread=0.7, spread_reach=2.0, evenness_weight=3.0)
    unit = np.sqrt(2 * np.pi / 12)
    d = squareform(pdist(x.numpy()))
    apart = np.maximum(0, 1 - d / (2 * unit))[~np.eye(12, dtype=bool)]
    excess = np.log(np.sort(d, axis=1)[:, 6] ** 2 + (0.01 * unit) ** 2).std() / 2 - 0.05
    expected = 0.7 * np.square(apart).sum() / 12 + 3 * excess**2
    generator = torch.Generator().manual_seed(0)
    drawn = [float(Evening(how, 0.05, generator)(x, 0)) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(expected, rel=0.03)


def test_an_even_layout_is_left_alone():
    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    even = evenness(x.numpy())
    assert energy(x, Sharpening(), 1.02 * even) == 0
    assert energy(x, Sharpening(), 0.98 * even) > 0


def test_cells_are_sought_anew_every_few_steps():
    even = Evening(Sharpening(search_every=10), 0.0, torch.Generator().manual_seed(0))
    x = torch.rand(60, 2, generator=torch.Generator().manual_seed(1))
    even(x, 3)
    first = even.sixth
    even(x.flip(0), 9)
    assert even.sixth is first
    even(x.flip(0), 10)
    assert torch.equal(even.sixth, 59 - first.flip(0))
