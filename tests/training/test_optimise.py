from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.special import softmax

from ipar._run import Run
from ipar.geometry import gauge_fix
from ipar.nn import EdgeGate
from ipar.nn.gate import dense_gate
from ipar.training.losses import e_geo
from ipar.training.minisets import collate, make_miniset, sample_minisets
from ipar.training.optimise import (
    Optimisation,
    gate_targets,
    gated,
    optimise_layout,
    optimise_sets,
    true_targets,
)

QUICK = Optimisation(n_steps=500, lr=0.1)


class NearGate(EdgeGate):
    """Scores pairs by the distance of the embeddings, as a gate does that was taught the true walk."""

    def __init__(self, scale):
        super().__init__(2)
        self.scale = scale

    def forward(self, h, source, target, *, both_ways=False, dtype=None):
        scores = -(h[source] - h[target]).square().sum(1, keepdim=True) / self.scale
        return torch.cat([scores, scores]) if both_ways else scores


def disparity(a, b):
    return procrustes(np.asarray(a), np.asarray(b))[2]


@pytest.fixture
def coords():
    return gauge_fix(torch.rand(90, 2) * torch.tensor([2.0, 1.0]))


@pytest.fixture
def sets():
    return sample_minisets([torch.randn(300, 4)], [torch.rand(300, 2)], 3, size=(40, 70), n_neighbors=30)


def test_the_oracle_finds_every_set_again_whatever_the_padding(sets):
    found = optimise_sets(collate(sets), config=QUICK)
    for x, one in zip(found.coords, sets, strict=True):
        assert disparity(x[: len(one)], one.coords) < 0.02
        assert e_geo(x[None, : len(one)], collate([one])) < 0.05
        assert (x[len(one) :] == 0).all()
    assert found.history["total"].iloc[-1] < 0.02
    assert found.history["step"].iloc[-1] == 499


def test_energy_of_the_history_is_the_weighted_sum_of_its_terms(sets):
    row = optimise_sets(collate(sets), config=replace(QUICK, n_steps=3)).history.iloc[-1]
    total = row["walk"] + 0.1 * row["stress"] + 0.01 * row["repulsion"] + 0.01 * row["entropy"]
    assert row["total"] == pytest.approx(total, rel=1e-5)


def test_a_slide_is_found_again_from_random_subsets_of_it(coords):
    config = replace(QUICK, n_steps=800, subset_size=60)
    start = torch.randn(90, 2)
    found = optimise_layout(start, true_targets(coords), config=config)
    assert disparity(start, coords) > 0.5
    assert disparity(found.coords, coords) < 0.02
    assert torch.allclose(found.coords, gauge_fix(found.coords), atol=1e-6)


def test_targets_see_no_more_cells_than_a_subset_has(coords):
    seen = []

    def spy(cells):
        seen.append(cells.tolist())
        return true_targets(coords)(cells)

    optimise_layout(torch.randn(90, 2), spy, config=replace(QUICK, n_steps=5, subset_size=50))
    assert [len(set(cells)) for cells in seen] == [50] * 5
    assert len({tuple(cells) for cells in seen}) == 5
    seen.clear()
    optimise_layout(torch.randn(90, 2), spy, config=replace(QUICK, n_steps=5, subset_size=90))
    assert seen == [list(range(90))]  # all cells: their targets are made once


def test_nothing_random_is_left_outside(coords):
    before = torch.get_rng_state()
    start = torch.randn(90, 2, generator=torch.Generator().manual_seed(1))
    kept = start.clone()
    config = replace(QUICK, n_steps=4, subset_size=50)
    once, again, other = (
        optimise_layout(start, true_targets(coords, random_state=seed), config=config, run=Run(seed)).coords
        for seed in (3, 3, 4)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(start, kept)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_heads", [1, 4])
def test_the_gates_walk_is_its_softmax_over_candidates(n_heads):
    h, gate = torch.randn(40, 6), EdgeGate(6, n_heads)
    batch = collate([make_miniset(h, torch.rand(40, 2), 7, torch.Generator())])
    found = gated(batch, gate)
    scores = dense_gate(gate, batch.h, batch.candidates).detach().double().numpy()[0].reshape(n_heads, 40, 40)
    allowed = batch.candidates[0].numpy()
    expected = softmax(np.where(allowed, scores, -np.inf), axis=-1).mean(0)
    np.testing.assert_allclose(found.log_reference[0].exp().numpy(), expected, atol=1e-6)
    assert torch.equal(found.adjacency, batch.candidates)
    assert not found.log_reference.requires_grad


def test_polishing_follows_the_gate(coords):
    # the embedding is the truth, lifted so that near cells are near by angle, and the gate knows distances
    h, start = torch.cat([coords, torch.ones(90, 1)], dim=1), gauge_fix(coords + 0.3 * torch.randn(90, 2))
    targets = gate_targets(h, start, NearGate(0.5), n_neighbors=25)
    found = optimise_layout(start, targets, config=replace(QUICK, n_steps=250, lr=0.02, subset_size=70))
    assert disparity(found.coords, coords) < 0.5 * disparity(start, coords)


def test_without_the_walk_a_layout_stays_where_it_was():
    start = gauge_fix(torch.rand(90, 2))
    targets = gate_targets(torch.randn(90, 4), start, EdgeGate(4), n_neighbors=30)
    config = replace(Optimisation.polish(), n_steps=100, weights=replace(QUICK.weights, walk=0.0))
    assert disparity(optimise_layout(start, targets, config=config).coords, start) < 0.01


def test_coincident_cells_and_tiny_slides_stay_finite():
    for n in (2, 4, 25):
        coords = torch.rand(n, 2)
        coords[1] = coords[0]
        start = torch.zeros(n, 2)
        start[-1] = 1.0
        for targets in (true_targets(coords), gate_targets(torch.zeros(n, 2), start, NearGate(1.0), n_neighbors=100)):
            found = optimise_layout(start, targets, config=replace(QUICK, n_steps=5))
            assert torch.isfinite(found.coords).all()
            assert np.isfinite(found.history.to_numpy()).all()
