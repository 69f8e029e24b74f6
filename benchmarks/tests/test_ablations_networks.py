from __future__ import annotations

import numpy as np
import pytest
import torch
from ipar.training._fit_ipalite import MinisetPlan

import lever_networks
from ipar.nn import IPALiteConfig, IPALiteNet
from ipar.training import fit_networks
from ipar.training.network_training import IPALiteTraining
from ipar.training.minisets import collate, sample_minisets

FEW = IPALiteTraining(max_epochs=1, ramp_epochs=0, gate_steps=2)
PLAN = MinisetPlan(n_minisets=4, size=(20, 30), n_neighbors=8)


def slides(n_own=0):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        x = rng.normal(size=(40, 2)).astype(np.float32)
        h = np.concatenate([x @ rng.normal(size=(2, 4)), rng.normal(size=(40, n_own))], axis=1).astype(np.float32)
        found.append((torch.from_numpy(h), torch.from_numpy(x)))
    return found


def batch():
    h, x = zip(*slides(), strict=True)
    return collate(sample_minisets(h, x, 3, size=(15, 25), n_neighbors=8, random_state=1))


def test_a_trial_without_a_change_is_the_training_of_the_package():
    given = slides()
    net, gate = lever_networks.fit_trial(lever_networks.TRIALS[0], given, 4, 3, plan=PLAN, training=FEW)
    h, x = zip(*((h.numpy(), x.numpy()) for h, x in given), strict=True)
    fit = fit_networks(h, x, training=FEW, plan=PLAN, random_state=3)
    for trained, same in ((net, fit.net), (gate, fit.gate)):
        for name, value in same.state_dict().items():
            torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("trial", lever_networks.TRIALS, ids=lambda trial: trial.name)
def test_every_trial_lays_a_slide_out_from_the_trained_networks(trial):
    given = slides(n_own=3)
    net, gate = lever_networks.fit_trial(trial, given, 4, 0, plan=PLAN, training=FEW)
    wide = torch.randn(400, 7, generator=torch.Generator().manual_seed(0))
    layout = lever_networks.place(trial, net, gate, wide, 4, 8, 0)
    assert layout.shape == (400, 2)
    assert torch.isfinite(layout).all()
    assert float(layout.square().sum(1).mean()) == pytest.approx(1, abs=1e-3)


def test_candidates_of_either_are_taken_in_turn():
    rng = np.random.default_rng(2)
    h = rng.normal(size=(30, 9)).astype(np.float32)
    found = lever_networks.nearest_of_either(torch.from_numpy(h), 5, 10).numpy()
    for i in range(30):
        lists = []
        for part in (h[:, :5], h[:, 5:]):
            cosine = part @ part[i] / np.linalg.norm(part, axis=1)
            lists.append([j for j in np.argsort(-cosine) if j != i])
        merged = list(dict.fromkeys(j for pair in zip(*lists, strict=True) for j in pair))
        assert set(found[i]) == set(merged[:10])


def test_all_cells_have_the_landmarks_among_their_candidates():
    h = torch.randn(2, 60, 6, generator=torch.Generator().manual_seed(1))
    found = lever_networks.with_landmarks(h, 4, 40)
    common = set.intersection(*(set(row.tolist()) | {i} for one in found for i, row in enumerate(one)))
    assert len(common) >= 24
    assert all(i not in row for one in found for i, row in enumerate(one.tolist()))


def test_the_contact_loss_is_low_where_true_neighbours_touch():
    given = batch()
    true = torch.zeros(*given.mask.shape, 2)
    sets = sample_minisets(*zip(*slides(), strict=True), 3, size=(15, 25), n_neighbors=8, random_state=1)
    for i, one in enumerate(sets):
        true[i, : len(one)] = one.coords
    shuffled = true.clone()
    for i, one in enumerate(sets):
        shuffled[i, : len(one)] = one.coords.roll(len(one) // 2, 0)
    low, high = (lever_networks.contact_loss(x, given).item() for x in (true, shuffled))
    assert low < high / 2
    pulls, pushes = [], []
    for i, one in enumerate(sets):
        for a in range(len(one)):
            for b in set(range(len(one))) - {a}:
                over = float(np.hypot(*(shuffled[i, a] - shuffled[i, b]).tolist()) - one.walk.sigma[a]) / 0.1
                edge = bool(one.walk.adjacency[a, b])
                (pulls if edge else pushes).append(np.logaddexp(0, over if edge else -over))
    assert high == pytest.approx(np.mean(pulls) + np.mean(pushes), rel=1e-3)


def test_losses_of_every_recycle_are_means_over_recycles():
    net = IPALiteNet(IPALiteConfig.v1())
    last, every = (
        kind(net, torch.nn.Linear(1, 1), FEW) for kind in (lever_networks.IPALiteTrainer, lever_networks.EveryRecycle)
    )
    given = batch()
    layouts = torch.randn(4, *given.mask.shape, 2, generator=torch.Generator().manual_seed(0)) * given.mask[..., None]
    single = [last.layout_terms(layouts[: i + 1], given) for i in (1, 2, 3)]
    for name in ("walk", "stress", "entropy"):  # the repulsion draws pairs
        mean = np.mean([one[name].item() for one in single])
        assert every.layout_terms(layouts, given)[name].item() == pytest.approx(mean, rel=1e-5)
