from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ipar._run import Run
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of_mask
from ipar.training import gate as gate_module
from ipar.training import network as _loop
from ipar.training.gate import augment, pretrain_gate
from ipar.training.losses import LossWeights, e_geo, gate_loss, taught_gate_loss
from ipar.training.minisets import collate, sample_minisets
from ipar.training.network import IPALiteTrainer, IPALiteTraining
from ipar.training.validation import sweep_beta, validate

NET = IPALiteConfig(d_input=12, d_state=24, n_heads=2, d_head=8, n_recycles=2)
QUICK = IPALiteTraining(max_epochs=3, ramp_epochs=2, patience=4, gate_steps=2)
CALM = {"embedding_noise": 0.0, "embedding_dropout": 0.0, "edge_drop": 0.0}


def minisets(count=3, size=(40, 60), seed=0):
    """Sets of a tissue whose embedding is a smooth function of place."""
    rng = np.random.default_rng(4)
    coords = torch.from_numpy(rng.random((200, 2))).float()
    frequencies, phases = torch.from_numpy(6 * rng.normal(size=(2, 12))).float(), torch.from_numpy(6 * rng.random(12))
    h = 2 * torch.sin(coords @ frequencies + phases.float())
    return sample_minisets([h], [coords], count, size=size, n_neighbors=25, random_state=seed)


def trainer(config=QUICK, *, net=NET, seed=0, random_state=0):
    torch.manual_seed(seed)
    return IPALiteTrainer(IPALiteNet(net), EdgeGate(net.d_input), config, Run(random_state))


def weights(made):
    return torch.cat([p.detach().flatten() for p in made.params])


def script(monkeypatch, values):
    """Validation that reports given energies, and keeps the weights it was shown."""
    shown, iterator = [], iter(values)

    def scripted(net, gate, sets, **_):
        shown.append(torch.cat([p.detach().flatten() for p in [*net.parameters(), *gate.parameters()]]))
        value = next(iterator)
        if value is KeyboardInterrupt:
            raise KeyboardInterrupt
        return 0.0, value

    monkeypatch.setattr(_loop, "validate", scripted)
    return shown


@pytest.mark.parametrize("informative", [True, False])
def test_one_miniset_is_overfitted(informative):
    sets = minisets(1, size=(64, 64))
    if not informative:
        sets = [replace(sets[0], h=torch.randn(64, 12))]
    config = IPALiteTraining(
        max_epochs=70, lr=5e-3, ramp_epochs=5, gate_steps=20, weights=LossWeights(walk=1.0), **CALM
    )
    made = trainer(config, net=replace(NET, d_state=48, d_head=16, coord_noise=0.0))
    before = validate(made.net, made.gate, sets)[1]
    made.fit(sets)
    after = validate(made.net, made.gate, sets)[1]
    assert after < (0.1 if informative else 0.25) * before


def test_history_follows_the_recipe():
    config = IPALiteTraining(max_epochs=5, ramp_epochs=3, batch_size=2, gate_steps=2, lr=1e-3, lr_min=1e-4)
    run = trainer(config).fit(minisets(3), minisets(2, seed=1))
    history = run.history
    assert list(history) == IPALiteTrainer.columns
    assert history["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert history["w_rw"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.3])
    cosine = 1e-4 + 0.5 * (1e-3 - 1e-4) * (1 + np.cos(np.pi * np.arange(5) / 5))
    assert history["lr"].tolist() == pytest.approx(cosine.tolist())
    parts = {"walk": history["w_rw"], "stress": 0.1, "repulsion": 0.01, "entropy": 0.01, "gate": 0.05}
    total = sum(weight * history[name] for name, weight in parts.items())
    # the mean over batches of a product is that of the factors, as the weight is constant in an epoch
    assert history["total"].tolist() == pytest.approx(total.tolist(), rel=1e-4)
    assert np.isfinite(history.to_numpy(dtype=float)).all()
    assert not run.interrupted


def test_no_ramp_is_the_full_weight_at_once():
    assert trainer(replace(QUICK, ramp_epochs=0)).weights_of(0, 3) == {"w_rw": 0.3}


def test_without_validation_the_last_epoch_is_kept():
    run = trainer().fit(minisets())
    assert len(run.history) == 3
    assert run.best_epoch == 2
    assert run.history[["val_target", "val_gated"]].isna().all(axis=None)


def test_a_trained_network_goes_on_from_half_the_learning_rate_with_the_full_walk_weight():
    on = replace(QUICK, ramp_epochs=2).going_on(4)
    history = trainer(on).fit(minisets()).history
    assert history["lr"].iloc[0] == pytest.approx(QUICK.lr / 2)
    assert len(history) == 4
    assert (history["w_rw"] == on.weights.walk).all()
    assert on.gate_steps == 0


def test_early_stopping_counts_only_after_the_ramp(monkeypatch):
    # the best energies of all are those of the warm-up: they neither win nor use up patience
    values = [0.01, 0.02, 0.03, 0.90, 0.80, 0.95, 0.85, 0.99]
    shown = script(monkeypatch, values)
    made = trainer(IPALiteTraining(max_epochs=30, ramp_epochs=3, patience=3, gate_steps=1))
    run = made.fit(minisets(2), minisets(1))
    assert run.best_epoch == 4
    assert len(run.history) == 8  # epochs 5, 6 and 7 were no better
    assert torch.equal(weights(made), shown[4])
    assert not torch.equal(shown[4], shown[7])


def test_a_late_improvement_resets_patience(monkeypatch):
    script(monkeypatch, [9.0, 1.0, 2.0, 0.9, 2.0, 0.8, 2.0, 2.0])
    run = trainer(IPALiteTraining(max_epochs=30, ramp_epochs=1, patience=2, gate_steps=1)).fit(minisets(2), minisets(1))
    assert (run.best_epoch, len(run.history)) == (5, 8)


def test_patience_starts_at_the_cap(monkeypatch):
    script(monkeypatch, [1.0] * 30)
    run = trainer(IPALiteTraining(max_epochs=30, ramp_epochs=4, patience=2, gate_steps=1)).fit(minisets(2), minisets(1))
    assert (run.best_epoch, len(run.history)) == (4, 7)


def test_a_broken_epoch_is_not_kept(monkeypatch):
    shown = script(monkeypatch, [1.0, 0.9, float("nan"), 0.8, float("nan"), 2.0])
    made = trainer(IPALiteTraining(max_epochs=6, ramp_epochs=1, patience=5, gate_steps=1))
    assert made.fit(minisets(2), minisets(1)).best_epoch == 3
    assert torch.equal(weights(made), shown[3])


@pytest.mark.parametrize(
    ("values", "kept"),
    [([1.0, 0.5, 0.7, KeyboardInterrupt], 1), ([1.0, KeyboardInterrupt], 0)],
)
def test_interruption_keeps_the_best_so_far(values, kept, monkeypatch, caplog):
    shown = script(monkeypatch, values)
    made = trainer(IPALiteTraining(max_epochs=9, ramp_epochs=1, patience=4, gate_steps=1))
    run = made.fit(minisets(2), minisets(1))
    assert run.interrupted
    assert run.best_epoch == kept
    assert len(run.history) == len(values) - 1
    assert torch.equal(weights(made), shown[kept])
    assert not made.net.training
    assert not made.gate.training
    assert "interrupted after" in caplog.text


def test_interruption_within_the_first_epoch_leaves_usable_networks(monkeypatch):
    made = trainer()
    monkeypatch.setattr(made, "losses", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    run = made.fit(minisets())
    assert run.interrupted
    assert len(run.history) == 0
    assert list(run.history) == IPALiteTrainer.columns
    assert torch.isfinite(weights(made)).all()


def test_other_errors_are_not_swallowed(monkeypatch):
    made = trainer()
    monkeypatch.setattr(made, "losses", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        made.fit(minisets())


def test_same_seed_same_result_and_the_global_state_is_left_alone():
    results = []
    torch.manual_seed(77)
    for random_state, noise in ((0, 0), (0, 5), (1, 0)):
        made = trainer(random_state=random_state)
        torch.rand(noise)  # the global stream must not matter
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        run = made.fit(minisets(), minisets(1))
        assert torch.equal(torch.get_rng_state(), before)
        assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
        results.append((weights(made), run.history))
    (first, history), (again, same), (other, _) = results
    assert torch.equal(first, again)
    assert history.equals(same)
    assert not torch.equal(first, other)


def test_a_step_on_large_sets_reads_lists_and_has_the_gradients_of_a_matrix():
    generator = torch.Generator().manual_seed(0)
    h, coords = torch.randn(520, 12, generator=generator), torch.rand(520, 2, generator=generator)
    sets = sample_minisets([h], [coords], 2, size=(505, 515), n_neighbors=25)
    made = trainer(replace(QUICK, gate_steps=2), net=replace(NET, gate_supervision="mix", coord_noise=0.0))
    pretrain_gate(made.gate, sets, made.config, np.random.default_rng(0), made.supervision)
    ready = made.prepare(sets, made.run.ranks.part(2))
    assert ready.graph.mask.shape[-1] <= 25  # lists
    parameters, found = [p for p in made.params if p.requires_grad], []
    for one in (ready, replace(ready, graph=ready.graph.dense().with_found())):
        torch.manual_seed(0)
        losses = made.losses(one, {"w_rw": 0.3})
        found.append(
            [
                losses["total"],
                *torch.autograd.grad(losses["total"], parameters, allow_unused=True, materialize_grads=True),
            ]
        )
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)
    batch = collate(sets[:1])
    with torch.no_grad():
        scores = dense_gate(made.gate, batch.h, batch.candidates)
        made.net.eval()
        layouts = made.net(batch.h, batch.adjacency), made.net(batch.h, batch.candidates, scores)
    expected = [e_geo(out.coords, batch).item() for out in layouts]
    assert validate(made.net, made.gate, sets[:1]) == pytest.approx(expected, rel=1e-4)


def test_looking_at_validation_changes_nothing():
    # both keep their last epoch, as the ramp ends with it
    blind, watching = (trainer(replace(QUICK, max_epochs=2, ramp_epochs=1)) for _ in range(2))
    blind.fit(minisets())
    watching.fit(minisets(), minisets(2, seed=1))
    assert torch.equal(weights(blind), weights(watching))


def test_validation_is_the_mean_energy_of_single_sets():
    made, sets = trainer(), minisets(5, seed=3)
    made.fit(minisets())
    state = torch.get_rng_state()
    found = validate(made.net, made.gate, sets, beta=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    on_target, on_candidates = [], []
    for one in sets:
        batch = collate([one])
        on_target.append(e_geo(made.net(batch.h, batch.adjacency).coords, batch).item())
        gate = dense_gate(made.gate, batch.h, batch.candidates)
        on_candidates.append(e_geo(made.net(batch.h, batch.candidates, gate, beta=0.5).coords, batch).item())
    assert found == pytest.approx((np.mean(on_target), np.mean(on_candidates)), rel=1e-4)


def test_gate_weighs_on_candidates_but_never_on_target_edges():
    made, sets = trainer(), minisets(2)
    made.fit(minisets())
    with torch.no_grad():
        made.net.blocks[0].step.add_(0.3)
        first = validate(made.net, made.gate, sets)
        for p in made.gate.parameters():
            p.mul_(3.0)
        second = validate(made.net, made.gate, sets)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert validate(made.net, made.gate, sets, beta=2.0) == second  # the config's, if none is given
    assert validate(made.net, made.gate, sets, beta=0.0)[1] != second[1]


def test_network_and_gate_see_the_same_augmented_embedding(monkeypatch):
    made, seen = trainer(), []
    real = _loop.dense_gate
    monkeypatch.setattr(_loop, "dense_gate", lambda g, h, *rest: seen.append((h, rest[0])) or real(g, h, *rest))
    inputs = []
    made.net.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[:2]))
    made.fit(minisets(2))
    assert inputs
    for (h_gate, c_gate), (h_net, c_net) in zip(seen, inputs, strict=True):
        assert torch.equal(h_gate, h_net)
        assert torch.equal(c_gate.mask, c_net.mask)
    clean = collate(minisets(2)).h
    assert not any(h.shape == clean.shape and torch.equal(h, clean) for h, _ in inputs)


def test_augmentation():
    batch = collate(minisets(3, size=(150, 150)))
    before = batch.h.clone(), batch.candidates.clone()
    shared = IPALiteTraining(**CALM)
    assert torch.equal(augment(batch, shared).h, batch.h)
    assert torch.equal(augment(batch, shared).candidates, batch.candidates)
    noise = augment(batch, replace(shared, embedding_noise=0.3)).h - batch.h
    assert noise.std().item() == pytest.approx(0.3, rel=0.05)
    dropped = augment(batch, replace(shared, embedding_dropout=0.1)).h
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.allclose(dropped[dropped != 0], batch.h[dropped != 0] / 0.9)
    kept = augment(batch, replace(shared, edge_drop=0.2)).candidates
    assert not (kept & ~batch.candidates).any()
    assert (kept.sum() / batch.candidates.sum()).item() == pytest.approx(0.8, abs=0.02)
    assert torch.equal(batch.h, before[0])
    assert torch.equal(batch.candidates, before[1])
    config = IPALiteTraining()
    assert (config.embedding_noise, config.embedding_dropout, config.edge_drop) == (0.3, 0.1, 0.2)


def test_pretraining_teaches_the_gate_alone():
    made, sets = trainer(replace(QUICK, gate_steps=60, lr=3e-3, **CALM)), minisets()
    net_before = [p.clone() for p in made.net.parameters()]
    batch = collate(sets)

    def loss():
        return gate_loss(dense_gate(made.gate, batch.h, batch.candidates), batch.candidates, batch.log_reference).item()

    before = loss()
    pretrain_gate(made.gate, sets, made.config, np.random.default_rng(0))
    assert loss() < 0.8 * before
    assert all(torch.equal(a, b) for a, b in zip(net_before, made.net.parameters(), strict=True))


def test_training_reaches_every_weight_that_is_in_use():
    made = trainer()
    before = {name: p.clone() for name, p in made.net.named_parameters()}
    gate_before = [p.clone() for p in made.gate.parameters()]
    made.fit(minisets())
    for name, p in made.net.named_parameters():
        # γ waits for the geometry term to be switched on: weight decay must not touch it either
        assert torch.equal(p, before[name]) == (name in ("blocks.0.geometry.gamma", "coord_input.2.bias")), name
    for a, b in zip(gate_before, made.gate.parameters(), strict=True):
        assert torch.equal(a, b) != b.requires_grad


def test_sweep_gives_what_validation_gives_at_every_weight():
    made, sets = trainer(), minisets(3, seed=3)
    made.fit(minisets())
    betas, state = (0.0, 0.5, 4.0), torch.get_rng_state()
    found = sweep_beta(made.net, made.gate, sets, betas)
    assert torch.equal(torch.get_rng_state(), state)
    assert found == pytest.approx([validate(made.net, made.gate, sets, beta=beta)[1] for beta in betas])
    assert len(set(found)) == 3


def test_the_gate_learns_what_the_config_names():
    """Pretrained on one target, a gate fits that target better than a gate pretrained on the other does."""
    sets = minisets(3)
    batch, fits = collate(sets), {}
    for supervision in ("T1", "T2"):
        made = trainer(replace(QUICK, gate_steps=150, lr=3e-3, **CALM), net=replace(NET, gate_supervision=supervision))
        pretrain_gate(made.gate, sets, made.config, np.random.default_rng(0), made.supervision)
        scores = dense_gate(made.gate, batch.h, batch.candidates)
        graph = graph_of_mask(batch.candidates)
        for target in ("T1", "T2"):
            fits[supervision, target] = taught_gate_loss(scores, graph, batch.log_reference, target).item()
    assert fits["T1", "T1"] < fits["T2", "T1"]
    assert fits["T2", "T2"] < fits["T1", "T2"]


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_step_of_the_gate_alone_reads_the_edges_of_a_share_of_the_cells(share, monkeypatch):
    read = []
    original = gate_module.dense_gate
    monkeypatch.setattr(
        gate_module,
        "dense_gate",
        lambda gate, h, candidates, *rest: (
            read.append(candidates.mask.any(-1).float().mean().item()) or original(gate, h, candidates, *rest)
        ),
    )
    made = trainer(replace(QUICK, gate_steps=12, gate_share=share))
    pretrain_gate(made.gate, minisets(), made.config, np.random.default_rng(0))
    assert len(read) == 12
    assert np.mean(read) == pytest.approx(share, abs=0.05)
