from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.ablations import networks
from ipar.nn import IPALiteConfig, IPALiteNet
from ipar.training import Folds, MinisetPlan, NetworkRecipe, Run
from ipar.training.minisets import collate, sample_minisets
from ipar.training.network import IPALiteTraining, fit_network

FEW = IPALiteTraining(max_epochs=1, ramp_epochs=0, gate_steps=2)
RECIPE = NetworkRecipe(plan=MinisetPlan(n_minisets=4, size=(20, 30), n_neighbors=8), training=FEW)
FOLDS = Folds.of([40, 40], Run(3))


def made(n_own=0):
    """Embeddings, of which the last columns stand for own components, and coordinates."""
    rng = np.random.default_rng(0)
    h, coords = [], []
    for _ in range(2):
        x = rng.normal(size=(40, 2)).astype(np.float32)
        own = rng.normal(size=(40, n_own))
        h.append(torch.from_numpy(np.concatenate([x @ rng.normal(size=(2, 4)), own], axis=1).astype(np.float32)))
        coords.append(x)
    return h, coords


def minisets():
    h, x = made()
    return sample_minisets(h, [torch.from_numpy(one) for one in x], 3, size=(15, 25), n_neighbors=8, random_state=1)


def test_a_trial_without_a_change_is_the_training_of_the_package():
    h, x = made()
    net, gate = networks.fit_trial(networks.TRIALS[0], h, x, 4, FOLDS, RECIPE, Run(3))
    fit = fit_network([one.numpy() for one in h], x, FOLDS, RECIPE, Run(3)).stage
    for trained, same in ((net, fit.net), (gate, fit.gate)):
        for name, value in same.state_dict().items():
            torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("trial", networks.TRIALS, ids=lambda trial: trial.name)
def test_every_trial_lays_a_slide_out_from_the_trained_networks(trial):
    h, x = made(n_own=3)
    fitted = networks.fit_trial(trial, h, x, 4, FOLDS, RECIPE, Run())
    wide = torch.randn(400, 7, generator=torch.Generator().manual_seed(0))
    layout = networks.place(trial, fitted, wide, 4, 8, 0)
    assert layout.shape == (400, 2)
    assert np.isfinite(layout).all()
    assert np.square(layout).sum(1).mean() == pytest.approx(1, abs=1e-3)


def test_candidates_of_either_are_taken_in_turn():
    rng = np.random.default_rng(2)
    h = rng.normal(size=(30, 9)).astype(np.float32)
    found = networks.nearest_of_either(torch.from_numpy(h), 5, 10).numpy()
    for i in range(30):
        lists = []
        for part in (h[:, :5], h[:, 5:]):
            cosine = part @ part[i] / np.linalg.norm(part, axis=1)
            lists.append([j for j in np.argsort(-cosine) if j != i])
        merged = list(dict.fromkeys(j for pair in zip(*lists, strict=True) for j in pair))
        assert set(found[i]) == set(merged[:10])


def test_all_cells_have_the_landmarks_among_their_candidates():
    h = torch.randn(2, 60, 6, generator=torch.Generator().manual_seed(1))
    found = networks.with_landmarks(h, 4, 40)
    common = set.intersection(*(set(row.tolist()) | {i} for one in found for i, row in enumerate(one)))
    assert len(common) >= 24
    assert all(i not in row for one in found for i, row in enumerate(one.tolist()))


def test_the_contact_loss_is_low_where_true_neighbours_touch():
    sets = minisets()
    given = collate(sets)
    true = torch.zeros(*given.mask.shape, 2)
    for i, one in enumerate(sets):
        true[i, : len(one)] = one.coords
    shuffled = true.clone()
    for i, one in enumerate(sets):
        shuffled[i, : len(one)] = one.coords.roll(len(one) // 2, 0)
    low, high = (networks.contact_loss(x, given).item() for x in (true, shuffled))
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
    last, every = (kind(net, torch.nn.Linear(1, 1), FEW) for kind in (networks.IPALiteTrainer, networks.EveryRecycle))
    given = collate(minisets())
    layouts = torch.randn(4, *given.mask.shape, 2, generator=torch.Generator().manual_seed(0)) * given.mask[..., None]
    single = [last.layout_terms(layouts[: i + 1], given) for i in (1, 2, 3)]
    for name in ("walk", "stress", "entropy"):  # the repulsion draws pairs
        mean = np.mean([one[name].item() for one in single])
        assert every.layout_terms(layouts, given)[name].item() == pytest.approx(mean, rel=1e-5)


def test_layouts_have_the_names_of_the_records(slides, hasty_recipe, names_of, monkeypatch):
    trial = networks.TRIALS[0]
    monkeypatch.setattr(networks, "TRIALS", (trial, replace(networks.TRIALS[3], trainer=networks.Contacts)))
    recipe = replace(RECIPE, plan=MinisetPlan(n_minisets=4, size=(30, 40), n_neighbors=8))
    found = dict(networks.layouts(slides, 0, hasty_recipe, recipe))
    assert set(found) < set(names_of("networks"))
    assert len(found) == 4
    assert {x.shape for x in found.values()} == {slides.truth.shape}
