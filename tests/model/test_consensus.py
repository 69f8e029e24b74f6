from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from ipar.geometry import apply_similarity, gauge_fix, procrustes_transform
from ipar.model.blend import Blend, aligned_to, blend_layouts, global_map
from ipar.model.consensus import ConsensusPlan, consensus_layout, generalised_procrustes, round_subsets

PLAN = ConsensusPlan(subset_size=40, n_anchors=12, n_rounds=3, batch_size=3)
N = 300


def random_similarity(x, rng):
    """A turn, mirror image, scale and shift of its own for every layout ``(..., m, 2)``."""
    shape = x.shape[:-2]
    turn = torch.from_numpy(ortho_group.rvs(2, size=int(np.prod(shape)), random_state=rng).reshape(*shape, 2, 2))
    scale, shift = (
        torch.from_numpy(rng.uniform(0.2, 9.0, shape)),
        torch.from_numpy(rng.normal(scale=20, size=(*shape, 2))),
    )
    return (x @ turn) * scale[..., None, None] + shift[..., None, :]


class Oracle:
    """Lays out the truth of two recycles in a frame of its own for every subset, with some noise."""

    def __init__(self, n=N, noise=0.0, seed=0):
        self.rng = np.random.default_rng(seed)
        self.truth = torch.from_numpy(self.rng.normal(size=(2, n, 2)) * [3.0, 1.0])
        self.noise, self.calls = noise, []

    def __call__(self, cells):
        self.calls.append(cells)
        found = self.truth[:, cells]
        noise = torch.from_numpy(self.rng.normal(size=tuple(found.shape)))
        return random_similarity(found + self.noise * noise, self.rng)

    def disparity(self, layouts):
        return [procrustes(*pair)[2] for pair in zip(self.truth.numpy(), layouts.numpy(), strict=True)]


@pytest.mark.parametrize("n", [41, 68, 69, 300])
@pytest.mark.parametrize("n_rounds", [1, 4])
def test_truth_in_random_frames_is_recovered(n, n_rounds):
    oracle = Oracle(n)
    layouts = consensus_layout(n, oracle, replace(PLAN, n_rounds=n_rounds))
    assert layouts.shape == (2, n, 2)
    assert max(oracle.disparity(layouts)) < 1e-20
    assert torch.allclose(gauge_fix(layouts), layouts)


def test_single_precision_is_recovered():
    oracle = Oracle()
    layouts = consensus_layout(N, lambda cells: oracle(cells).float(), PLAN)
    assert layouts.dtype == torch.float32
    assert max(oracle.disparity(layouts)) < 1e-9


def test_every_cell_is_laid_out_in_every_round_in_sets_of_the_trained_size():
    oracle = Oracle()
    consensus_layout(N, oracle, PLAN)
    per_round = -(-(N - 12) // 28)
    assert all(len(cells) <= 3 for cells in oracle.calls)
    assert all(cells.shape[1] == 40 for cells in oracle.calls)
    subsets = torch.cat(oracle.calls)
    assert len(subsets) == 3 * per_round
    for part in subsets.split(per_round):
        assert part.unique().tolist() == list(range(N))


@pytest.mark.parametrize("n", [41, 67, 68, 69, 95, 96, 97, 300])
def test_subsets_share_their_anchors_and_cover_the_rest(n):
    rng = np.random.default_rng(0)
    rounds = [round_subsets(n, PLAN, rng) for _ in range(3)]
    for subsets in rounds:
        anchors, fresh = subsets[:, :12], subsets[:, 12:]
        assert (anchors == anchors[0]).all()
        assert all(len(set(row)) == 40 for row in subsets.tolist())  # none twice in a subset
        assert set(fresh.ravel().tolist()) == set(range(n)) - set(anchors[0].tolist())
        assert np.bincount(fresh.ravel()).max() <= 2
    assert len({tuple(sorted(subsets[0, :12].tolist())) for subsets in rounds}) == 3  # new anchors every round


def test_work_is_linear_in_the_cells():
    counts = [len(round_subsets(n, PLAN, np.random.default_rng(0))) for n in (1000, 2000, 4000)]
    assert counts == [pytest.approx(n / 28, abs=1.5) for n in (1000, 2000, 4000)]


def test_rounds_average_noise_away():
    errors = []
    for n_rounds in (1, 4, 16):
        oracle = Oracle(noise=0.5, seed=3)
        errors.append(oracle.disparity(consensus_layout(N, oracle, replace(PLAN, n_rounds=n_rounds)))[-1])
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_order_of_cells_is_no_matter():
    # the subsets are drawn by position, but a layout that only depends on the cells comes out the same up to the frame
    order, oracle = np.random.default_rng(5).permutation(N), Oracle()
    found = consensus_layout(N, lambda cells: oracle(torch.from_numpy(order)[cells]), PLAN)
    assert procrustes(oracle.truth[1, order].numpy(), found[1].numpy())[2] < 1e-20


def test_seeds():
    def run(seed, batch_size=3):
        # noise by cell and partners, not by call: the same subsets give the same layouts
        truth = torch.from_numpy(np.random.default_rng(0).normal(size=(N, 2)))

        def lay_out(cells):
            mixed = truth[cells] + 0.3 * torch.sin(1.0 * cells.roll(1, dims=1))[..., None]
            return torch.stack([mixed, 2 * mixed + 1])

        return consensus_layout(N, lay_out, replace(PLAN, batch_size=batch_size), random_state=seed)

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(run(0), run(0))
    assert torch.allclose(run(0, batch_size=1), run(0))
    assert torch.allclose(run(0, batch_size=100), run(0))
    assert not torch.allclose(run(1), run(0), atol=1e-3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_no_rounds_are_an_error():
    with pytest.raises(ValueError, match="n_rounds must be at least 1, found 0"):
        consensus_layout(N, Oracle(), replace(PLAN, n_rounds=0))


def test_alignment_to_the_mean_has_settled():
    # every layout lies as near as it can to the mean of all, and nearer than when all are laid on the first of them
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 2))
    layouts = random_similarity(torch.from_numpy(truth + rng.normal(scale=0.6, size=(2, 8, 30, 2))), rng)

    def spread(x):
        mean = x.mean(1, keepdim=True)
        return (
            (x - mean).square().sum((1, 2, 3)) / (mean - mean.mean(2, keepdim=True)).square().sum((1, 2, 3))
        ).numpy()

    def laid_on(x, target):
        return apply_similarity(x, procrustes_transform(x, target.expand_as(x)))

    aligned = generalised_procrustes(layouts, layouts)
    assert (spread(aligned) < spread(laid_on(layouts, layouts[:, :1]))).all()
    again = laid_on(aligned, gauge_fix(aligned.mean(1, keepdim=True)))
    assert (again - aligned).abs().max() < 0.01 * aligned.std()


def test_alignment_is_found_on_the_anchors_alone():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.normal(size=(30, 2))).expand(1, 5, -1, -1)
    spoilt = truth.clone()
    spoilt[:, 3, 10:] += 100.0
    layouts = random_similarity(spoilt, rng)
    aligned = generalised_procrustes(layouts, layouts[:, :, :10])
    assert torch.allclose(aligned[0, [0, 1, 2, 4]], aligned[:1, 0].expand(4, -1, -1), atol=1e-9)
    assert torch.allclose(aligned[0, 3, :10], aligned[0, 0, :10], atol=1e-9)


def test_layouts_are_turned_onto_another():
    rng = np.random.default_rng(0)
    last = gauge_fix(torch.from_numpy(rng.normal(size=(50, 2))))
    drifting = torch.stack([last + scale * torch.from_numpy(rng.normal(size=(50, 2))) for scale in (0.6, 0.3, 0.0)])
    layouts = gauge_fix(random_similarity(drifting, rng))
    layouts[-1] = last
    aligned = aligned_to(layouts, last)
    assert torch.allclose(aligned[-1], last)
    assert torch.allclose(gauge_fix(aligned), aligned, atol=1e-12)
    for found, before in zip(aligned, layouts, strict=True):
        assert procrustes(before.numpy(), found.numpy())[2] < 1e-20  # the same shape, only turned
        disparity = procrustes(last.numpy(), found.numpy())[2]
        # at unit radius the best turn leaves 2 − 2·√(1 − disparity)
        assert (found - last).square().sum(-1).mean().item() == pytest.approx(2 - 2 * np.sqrt(1 - disparity), abs=1e-9)


def test_global_map_is_that_of_a_pca():
    rng = np.random.default_rng(5)
    h = rng.normal(size=(200, 8)) * np.array([5.0, 3.0, 1.0, 1.0, 0.5, 0.5, 0.2, 0.1]) + 4
    found = global_map(h).numpy()
    expected = gauge_fix(torch.from_numpy(PCA(2).fit_transform(h))).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)


def test_coincident_embeddings_have_a_layout_of_zeros():
    assert (global_map(np.ones((10, 4))) == 0).all()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_blend_is_the_mean_of_layouts_turned_onto_each_other(weight):
    # the same shape in another frame changes nothing, whatever its weight
    rng = np.random.default_rng(6)
    layouts = gauge_fix(torch.from_numpy(rng.normal(size=(3, 50, 2))))
    other = random_similarity(layouts[1], rng)
    found = blend_layouts(layouts[1], other, weight)
    torch.testing.assert_close(found, layouts[1])
    torch.testing.assert_close(found, gauge_fix(found))


def test_blend_goes_from_one_layout_to_the_other():
    rng = np.random.default_rng(7)
    layout, other = (torch.from_numpy(rng.normal(size=(60, 2))) for _ in range(2))

    def gap(blend, target):
        return procrustes(target.numpy(), blend.numpy())[2]

    blends = [blend_layouts(layout, other, weight) for weight in (0.0, 0.25, 0.5, 0.75, 1.0)]
    away, near = ([gap(blend, target) for blend in blends] for target in (layout, other))
    assert away[0] == pytest.approx(0, abs=1e-12)
    assert near[-1] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(away) > 0)
    assert np.all(np.diff(near) < 0)


def test_blend_of_layouts_in_any_frame_is_the_same_shape():
    rng = np.random.default_rng(8)
    layout, other = (torch.from_numpy(rng.normal(size=(40, 2))) for _ in range(2))
    expected = blend_layouts(layout, other, 0.4).numpy()
    moved = blend_layouts(random_similarity(layout, rng), random_similarity(other, rng), 0.4).numpy()
    assert procrustes(expected, moved)[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shares", [{"global_map": -0.1}, {"global_map": 1.1}, {"flow": float("nan")}])
def test_a_share_lies_between_0_and_1(shares):
    with pytest.raises(ValueError, match="must (lie between 0 and 1|be a finite number), found"):
        Blend(**shares)


def test_shares_of_three_layouts():
    # network .25, global map .25, flow .5, each turned onto what is there so far, at unit norm
    rng = np.random.default_rng(9)
    network, expected = (gauge_fix(torch.from_numpy(rng.normal(size=(50, 2)))) for _ in range(2))
    features = rng.normal(size=(50, 6)).astype(np.float32)
    found = Blend(0.5, 0.5).apply(network.float(), features, expected.float().numpy())
    a, b, _ = procrustes(network.numpy(), PCA(2).fit_transform(features))
    first = a + b / np.linalg.norm(b)
    a, b, _ = procrustes(first, expected.numpy())
    assert procrustes(a + b / np.linalg.norm(b), found.numpy())[2] == pytest.approx(0, abs=1e-5)
