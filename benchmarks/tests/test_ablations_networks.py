from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ipar
from benchmarks.ablations import networks, starts, trials
from ipar.nn import IPALiteConfig, IPALiteNet
from ipar.training import Folds, MinisetPlan, NetworkRecipe, Run
from ipar.training.minisets import collate, sample_minisets
from ipar.training.network import IPALiteTraining, fit_network

FEW = IPALiteTraining(max_epochs=1, ramp_epochs=0, gate_steps=2)
RECIPE = NetworkRecipe(plan=MinisetPlan(n_minisets=4, size=(20, 30), n_neighbors=8), training=FEW)
FOLDS = Folds.of([40, 40], Run(3))


def made(n_own=0):
    """Embeddings, with columns that stand for own components and a map of the tissue, and coordinates."""
    rng = np.random.default_rng(0)
    h, coords = [], []
    for _ in range(2):
        x = rng.normal(size=(40, 2)).astype(np.float32)
        more = [rng.normal(size=(40, n_own)), x + 0.3 * rng.normal(size=x.shape)] if n_own else []
        h.append(torch.from_numpy(np.concatenate([x @ rng.normal(size=(2, 4)), *more], axis=1).astype(np.float32)))
        coords.append(x)
    return h, coords


def minisets():
    h, x = made()
    return sample_minisets(h, [torch.from_numpy(one) for one in x], 3, size=(15, 25), n_neighbors=8, random_state=1)


def test_a_trial_without_a_change_is_the_training_of_the_package():
    h, x = made()
    net, gate = networks.fit_trial(trials.TRIALS[0], h, x, 4, FOLDS, RECIPE, Run(3))
    fit = fit_network([one.numpy() for one in h], x, FOLDS, RECIPE, Run(3)).stage
    for trained, same in ((net, fit.net), (gate, fit.gate)):
        for name, value in same.state_dict().items():
            torch.testing.assert_close(trained.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("trial", trials.TRIALS, ids=lambda trial: trial.name)
def test_every_trial_lays_a_slide_out_from_the_trained_networks(trial):
    h, x = made(n_own=3)
    fitted = networks.fit_trial(trial, h, x, 4, FOLDS, RECIPE, Run())
    wide = torch.randn(400, 9, generator=torch.Generator().manual_seed(0))
    layout = networks.place(trial, fitted, wide, 4, RECIPE, 0)
    assert layout.shape == (400, 2)
    assert np.isfinite(layout).all()
    assert np.square(layout).sum(1).mean() == pytest.approx(1, abs=1e-3)


def test_candidates_of_either_are_taken_in_turn():
    rng = np.random.default_rng(2)
    h = rng.normal(size=(30, 11)).astype(np.float32)
    found = trials.nearest_of_either(torch.from_numpy(h), 5, 10).numpy()
    for i in range(30):
        lists = []
        for part in (h[:, :5], h[:, 5:9]):
            cosine = part @ part[i] / np.linalg.norm(part, axis=1)
            lists.append([j for j in np.argsort(-cosine) if j != i])
        merged = list(dict.fromkeys(j for pair in zip(*lists, strict=True) for j in pair))
        assert set(found[i]) == set(merged[:10])


def test_all_cells_have_the_landmarks_among_their_candidates():
    h = torch.randn(2, 60, 6, generator=torch.Generator().manual_seed(1))
    found = trials.with_landmarks(h, 4, 40)
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
    low, high = (trials.contact_loss(x, given).item() for x in (true, shuffled))
    assert low < high / 2
    pulls, pushes = [], []
    for i, one in enumerate(sets):
        for a in range(len(one)):
            for b in set(range(len(one))) - {a}:
                over = float(np.hypot(*(shuffled[i, a] - shuffled[i, b]).tolist()) - one.walk.sigma[a]) / 0.1
                edge = bool(one.walk.adjacency[a, b])
                (pulls if edge else pushes).append(np.logaddexp(0, over if edge else -over))
    assert high == pytest.approx(np.mean(pulls) + np.mean(pushes), rel=1e-3)


def test_mutual_candidates_choose_each_other():
    h = torch.randn(1, 80, 4, generator=torch.Generator().manual_seed(1))
    near = [set(row.tolist()) for row in trials.nearest(h, 4, 40)[0]]
    for i, row in enumerate(trials.mutual(h, 4, 40)[0].tolist()):
        expected = {j for j in near[i] if i in near[j]} | set(trials.nearest(h, 4, 20)[0, i].tolist())
        assert set(row) == expected


def test_hard_negatives_are_the_best_scored_wrong_candidates():
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(2, 30, 30, generator=generator)
    candidates, true = (torch.rand(2, 30, 30, generator=generator) < share for share in (0.9, 0.3))
    found = trials.hard_negative_loss(scores, candidates, true).item()
    pulls, pushes = [], []
    for row, shown, real in zip(scores.flatten(0, 1), candidates.flatten(0, 1), true.flatten(0, 1), strict=True):
        pulls += [np.logaddexp(0, -s) for s in row[shown & real].tolist()]
        pushes += [np.logaddexp(0, s) for s in sorted(row[shown & ~real].tolist())[-20:]]
    assert found == pytest.approx(np.mean(pulls) + np.mean(pushes), rel=1e-5)


def test_a_network_from_the_map_turns_with_it():
    torch.manual_seed(0)
    net = starts.MapNet(replace(IPALiteConfig.v1(), d_input=4)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    h, x = torch.randn(1, 30, 4), torch.randn(1, 30, 2)
    angle = torch.tensor(0.7)
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([angle.sin(), -angle.cos()])])
    candidates = ~torch.eye(30, dtype=torch.bool)[None]
    with torch.no_grad():
        layouts = [net(torch.cat([h, 1000 * one], -1), candidates).layouts for one in (x, x @ turn)]
    torch.testing.assert_close(layouts[0] @ turn, layouts[1], rtol=1e-3, atol=1e-4)
    assert (layouts[0][0] - layouts[0][-1]).abs().max() > 0.05


def test_what_is_around_a_cell_is_of_the_set_without_itself():
    h, x = torch.randn(1, 12, 3), torch.randn(1, 12, 2)
    guess, mask = x + 0.2 * torch.randn(1, 12, 2), torch.arange(12)[None] < 10
    found = starts.surroundings(h, x, guess, mask)[0, 4]
    spread = (x - guess)[0].square().sum(-1) + 0.05**2
    weights = [
        np.exp(-float((x[0, 4] - x[0, j]).square().sum() / (spread[4] + spread[j]))) if j != 4 else 0 for j in range(10)
    ]
    expected = sum(w * h[0, j] for j, w in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_losses_of_every_recycle_are_means_over_recycles():
    net = IPALiteNet(IPALiteConfig.v1())
    last, every = (kind(net, torch.nn.Linear(1, 1), FEW) for kind in (trials.IPALiteTrainer, trials.EveryRecycle))
    given = collate(minisets())
    layouts = torch.randn(4, *given.mask.shape, 2, generator=torch.Generator().manual_seed(0)) * given.mask[..., None]
    single = [last.layout_terms(layouts[: i + 1], given) for i in (1, 2, 3)]
    for name in ("walk", "stress", "entropy"):  # the repulsion draws pairs
        mean = np.mean([one[name].item() for one in single])
        assert every.layout_terms(layouts, given)[name].item() == pytest.approx(mean, rel=1e-5)


def test_the_mean_of_layouts_is_that_of_their_shapes_wherever_they_lie():
    """Two layouts that differ by noise, turned and mirrored: the mean is nearer to the truth than either."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(200, 2))
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])
    one, other = ((truth + 0.3 * rng.normal(size=truth.shape)) @ m for m in (np.eye(2), turn))
    rmse = [
        ipar.metrics.procrustes_error(truth, x).rmse
        for x in (networks.mean_of([one.astype(np.float32), 5 * other.astype(np.float32)]), one, other)
    ]
    assert rmse[0] < 0.8 * min(rmse[1:])


def test_layouts_have_the_names_of_the_records(slides, hasty_recipe, names_of, monkeypatch):
    chosen = [one for one in trials.TRIALS if one.name in ("as it is", "from the global map")]
    monkeypatch.setattr(networks, "TRIALS", chosen)
    monkeypatch.setattr(networks, "MEANS", {"the mean of the three seeds": tuple(one.name for one in chosen)})
    recipe = replace(RECIPE, plan=MinisetPlan(n_minisets=4, size=(30, 40), n_neighbors=8))
    found = dict(networks.layouts(slides, 0, hasty_recipe, recipe))
    assert set(found) < set(names_of("networks"))
    assert len(found) == 6
    assert {x.shape for x in found.values()} == {slides.truth.shape}
