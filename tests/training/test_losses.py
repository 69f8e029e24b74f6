from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import entropy

from ipar import metrics
from ipar.geometry import gauge_fix
from ipar.geometry.targets import log_walk, walk_target
from ipar.metrics import _e_geo
from ipar.nn.graph import graph_of_mask
from ipar.training.losses import (
    LossWeights,
    e_geo,
    entropy_regulariser,
    gate_loss,
    layout_losses,
    repulsion,
    taught_gate_loss,
)
from ipar.training.minisets import collate, sample_minisets


@pytest.fixture
def sets():
    return sample_minisets([torch.randn(400, 6)], [torch.rand(400, 2)], 3, size=(40, 190), n_neighbors=30)


def padded(layouts, n, fill=0.0):
    return torch.stack([torch.nn.functional.pad(x, (0, 0, 0, n - len(x)), value=fill) for x in layouts])


def noisy(x, scale=0.3):
    return gauge_fix(x + scale * torch.randn_like(x))


def test_truth_has_no_walk_and_stress_loss(sets):
    batch = collate(sets)
    losses = layout_losses(padded([s.coords for s in sets], batch.h.shape[1]), batch)
    assert losses.walk == 0
    assert losses.stress < 1e-9


def test_batch_is_the_mean_of_its_sets_whatever_the_padding(sets):
    layouts, batch = [noisy(s.coords) for s in sets], collate(sets)
    singles = [layout_losses(x[None], collate([s])) for x, s in zip(layouts, sets, strict=True)]
    for fill in (0.0, 40.0):
        losses = layout_losses(padded(layouts, batch.h.shape[1], fill), batch)
        for name in ("walk", "stress", "entropy"):
            mean = np.mean([getattr(one, name).item() for one in singles])
            assert getattr(losses, name).item() == pytest.approx(mean, rel=1e-4)


def test_energy_is_that_of_the_metrics(sets, monkeypatch):
    for made in sets:
        x = noisy(made.coords)
        monkeypatch.setattr(_e_geo, "_multiscale_edges", lambda *_, e=made.edges: tuple(e.long().numpy()))
        expected = metrics.e_geo(made.coords.numpy(), x.numpy())
        losses = layout_losses(x[None], collate([made]))
        assert losses.walk.item() == pytest.approx(expected.walk, rel=1e-3)
        assert losses.stress.item() == pytest.approx(expected.stress, rel=1e-3)
        # the reported energy weighs the walk by one, not by its weight in training
        assert e_geo(x[None], collate([made])).item() == pytest.approx(expected.total, rel=1e-3)


def test_weights_are_those_of_the_design():
    assert LossWeights() == LossWeights(walk=0.3, stress=0.1, repulsion=0.01, entropy=0.01, gate=0.05)


def test_energy_draws_no_random_numbers(sets):
    state = torch.get_rng_state()
    e_geo(noisy(sets[0].coords)[None], collate(sets[:1]))
    before = torch.get_rng_state()
    e_geo(sets[0].coords[None], collate(sets[:1]))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(state, before)  # the noise did


def test_repulsion_of_points_at_one_distance():
    # two places of a triangle of side d, whatever pairs are drawn
    side = 0.08
    corners = side * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    value = repulsion(corners[None].float(), torch.ones(1, 3, dtype=torch.bool))
    assert value.item() == pytest.approx(np.exp(-(side**2) / 0.01), rel=1e-4)


def test_repulsion_estimates_the_mean_over_pairs_and_never_sees_padding():
    x = 0.15 * torch.randn(1, 30, 2)
    d = (x[0, :, None] - x[0]).square().sum(-1)
    expected = (-d / 0.01).exp()[~torch.eye(30, dtype=torch.bool)].mean().item()
    wide = torch.nn.functional.pad(x, (0, 0, 0, 30))  # padding that coincides
    mask = torch.arange(60)[None] < 30
    found = np.mean([repulsion(wide, mask).item() for _ in range(200)])
    assert found == pytest.approx(expected, rel=0.05)


def test_repulsion_is_one_in_a_point_and_pushes_apart():
    mask = torch.ones(2, 20, dtype=torch.bool)
    assert repulsion(torch.zeros(2, 20, 2), mask).item() == pytest.approx(1.0)
    x = (0.05 * torch.randn(2, 20, 2)).requires_grad_()
    repulsion(x, mask).backward()
    assert (x.grad * x.detach()).sum() < 0  # descent moves outwards


def test_entropy_is_the_negative_mean_of_the_rows(sets):
    batch = collate(sets)
    layouts = [noisy(s.coords) for s in sets]
    log_predicted = log_walk(padded(layouts, batch.h.shape[1]), batch.adjacency, batch.sigma)
    expected = []
    for made, x in zip(sets, layouts, strict=True):
        walk = log_walk(x, made.walk.adjacency, made.walk.sigma).exp().numpy()
        expected.append(-entropy(walk.astype(float), axis=1).mean())
    assert entropy_regulariser(log_predicted, batch.mask).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert layout_losses(padded(layouts, batch.h.shape[1]), batch).entropy.item() == pytest.approx(
        np.mean(expected), rel=1e-5
    )


def test_gradients_are_finite_at_a_collapse(sets):
    batch = collate(sets)
    x = torch.zeros(3, batch.h.shape[1], 2, requires_grad=True)
    losses = layout_losses(x, batch)
    (losses.walk + losses.stress + losses.repulsion + losses.entropy).backward()
    assert torch.isfinite(x.grad).all()


def gate_kl_by_loops(gate, candidates, reference):
    values = []
    for b, i in np.ndindex(*gate.shape[:2]):
        allowed = np.flatnonzero(candidates[b, i])
        p = reference[b, i, allowed]
        if p.sum() > 0:
            values.append(entropy(p / p.sum(), softmax(gate[b, i, allowed])))
    return np.mean(values)


def test_gate_loss_against_loops(sets):
    batch = collate(sets)
    candidates = batch.candidates.clone()
    candidates[0, 3] = False
    candidates[1, 5] = ~batch.adjacency[1, 5] & candidates[1, 5]  # candidates, but none of them a true neighbour
    gate = 2 * torch.randn(candidates.shape)
    reference = batch.log_reference.exp().double().numpy()
    expected = gate_kl_by_loops(gate.double().numpy(), candidates.numpy(), reference)
    assert gate_loss(gate, candidates, batch.log_reference).item() == pytest.approx(expected, rel=1e-4)


def test_gate_loss_vanishes_at_its_target_and_ignores_row_offsets(sets):
    batch = collate(sets)
    best = batch.log_reference.clamp_min(-100.0)
    assert gate_loss(best, batch.candidates, batch.log_reference).abs() < 1e-5
    gate = torch.randn(best.shape)
    value = gate_loss(gate, batch.candidates, batch.log_reference)
    assert value > 0.1
    shifted = gate + 5 * torch.randn(*best.shape[:2], 1)
    assert torch.allclose(gate_loss(shifted, batch.candidates, batch.log_reference), value, rtol=1e-4)
    spoilt = gate.masked_fill(~batch.candidates, 1e4)
    assert torch.equal(gate_loss(spoilt, batch.candidates, batch.log_reference), value)


def test_gate_gradient_lies_on_candidates_and_is_finite(sets):
    batch = collate(sets)
    candidates = batch.candidates.clone()
    candidates[1] = False
    gate = torch.randn(candidates.shape, requires_grad=True)
    gate_loss(gate, candidates, batch.log_reference).backward()
    assert torch.isfinite(gate.grad).all()
    assert (gate.grad[~candidates] == 0).all()
    assert gate.grad[candidates].abs().max() > 0
    nothing = gate_loss(gate, torch.zeros_like(candidates), batch.log_reference)
    assert nothing == 0


def test_walk_reference_is_of_the_true_layout(sets):
    # a batch whose reference is another set's would still give finite losses
    batch, made = collate(sets[:1]), sets[0]
    target = walk_target(made.coords)
    swapped = replace(batch, log_reference=log_walk(noisy(made.coords), target.adjacency, target.sigma)[None])
    assert layout_losses(made.coords[None], swapped).walk > 0.01


def test_gate_loss_of_several_heads_is_the_mean_of_theirs():
    candidates = torch.rand(2, 12, 12) < 0.5
    reference = torch.randn(2, 12, 12).masked_fill(torch.rand(2, 12, 12) < 0.6, float("-inf"))
    gate = torch.randn(2, 4, 12, 12)
    single = [gate_loss(gate[:, head], candidates, reference) for head in range(4)]
    torch.testing.assert_close(gate_loss(gate, candidates, reference), torch.stack(single).mean())


def test_gate_is_taught_one_step_two_steps_or_both(sets):
    batch = collate(sets)
    graph, scores = graph_of_mask(batch.candidates), torch.randn_like(batch.log_reference)
    one = batch.log_reference.exp().double().numpy()
    two = np.einsum("bij,bjk->bik", one, one)
    found = {name: taught_gate_loss(scores, graph, batch.log_reference, name).item() for name in ("T1", "T2", "mix")}
    for name, walk in (("T1", one), ("T2", two)):
        rows = []
        for b, i in zip(*np.nonzero((walk * batch.candidates.numpy()).sum(-1)), strict=True):
            allowed = batch.candidates[b, i].numpy()
            target = walk[b, i, allowed] / walk[b, i, allowed].sum()
            predicted = softmax(scores[b, i].double().numpy()[allowed])
            rows.append(rel_entr(target, predicted).sum())
        assert found[name] == pytest.approx(np.mean(rows), rel=1e-4)
    assert found["mix"] == pytest.approx(found["T1"] + 0.5 * found["T2"], rel=1e-5)
    more = taught_gate_loss(scores, graph, batch.log_reference, "mix", mix=2.0).item()
    assert more == pytest.approx(found["T1"] + 2 * found["T2"], rel=1e-5)


def test_gate_loss_is_the_same_on_lists(sets):
    batch = collate(sets)
    lists = graph_of_mask(batch.candidates, dense_max=1)
    scores = torch.randn_like(batch.log_reference)
    for name in ("T1", "T2", "mix"):
        dense = taught_gate_loss(scores, graph_of_mask(batch.candidates), batch.log_reference, name)
        torch.testing.assert_close(taught_gate_loss(lists.of_pairs(scores), lists, batch.log_reference, name), dense)
