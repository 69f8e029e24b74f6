from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import ipar
from ipar._run import Run
from ipar.model.flow import aligned_samples
from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.nn.gate import dense_gate
from ipar.nn.pose_flow import follow_flow, noise_poses
from ipar.pp._ellipses import neighbor_ellipses
from ipar.training import FlowRecipe, Folds, MinisetPlan
from ipar.training.flow import fit_flow
from ipar.training.flow_training import FlowTrainer, FlowTraining, validate_flow
from ipar.training.pose_sets import collate_poses, ellipse_units, sample_pose_sets

WIDTH = 8
CONFIG = IGAConfig(d_input=WIDTH, d_state=32, n_heads=2, d_head=8, n_blocks=2)
RECIPE = FlowTraining(gate_steps=20, lr=5e-3, max_epochs=3)


def slide(seed, d=2, n=150, *, mirrored=False):
    """Positions in a box, and an embedding that tells them with some noise; if mirrored, not the side."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(n, d)) * np.array([1.5, 1.0, 0.8])[:d]
    lift = np.random.default_rng(7).normal(size=(d, WIDTH))
    source = np.column_stack([np.abs(x[:, 0]), x[:, 1:]]) if mirrored else x
    h = np.tanh(source @ lift) * 2 + 0.1 * rng.normal(size=(n, WIDTH))
    x = x.astype(np.float32)
    ellipses = neighbor_ellipses(x, pd.Categorical(["a"] * n), 10)
    return h.astype(np.float32), x, ellipses.astype(np.float32)


def parts(slides):
    return [list(part) for part in zip(*slides, strict=True)]


def pose_sets(d=2, count=4, seed=0, **options):
    slides = [slide(1, d, **options), slide(2, d, **options)]
    tensors = [[torch.from_numpy(x) for x in part] for part in parts(slides)]
    return sample_pose_sets(*tensors, count, size=(60, 90), n_neighbors=20, random_state=seed)


def trainer(sets, d=2, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = IGANet(replace(CONFIG, n_dims=d, units=ellipse_units(sets)))
        gate = EdgeGate(WIDTH)
    return FlowTrainer(net, gate, replace(RECIPE, **changes))


@pytest.mark.parametrize("d", [2, 3])
def test_sets_have_clean_poses_in_their_own_radii(d):
    sets = pose_sets(d)
    for one in sets:
        assert torch.equal(one.rigid.translation, one.miniset.coords)
        assert one.rigid.translation.square().sum(-1).mean().item() == pytest.approx(1, abs=1e-4)
        mean, covariance = one.rigid.to_global()
        # neighbourhoods of 11 of 150 cells: about a quarter of a radius
        assert 0.1 < covariance.diagonal(dim1=-2, dim2=-1).mean().sqrt() < 0.6
        assert (mean - one.rigid.translation).norm(dim=-1).mean() < 0.3
    batch = collate_poses(sets)
    sizes = [len(one) for one in sets]
    assert batch.rigid.shape == (4, max(sizes))
    for b, one in enumerate(sets):
        assert torch.equal(batch.rigid.scaling_log[b, : sizes[b]], one.rigid.scaling_log)
        assert (batch.rigid.translation[b, sizes[b] :] == 0).all()


@pytest.mark.parametrize(("d", "mode"), [(2, "current"), (2, "clean"), (2, "curriculum"), (3, "curriculum")])
def test_history_has_every_term_and_the_debug_signals(d, mode):
    sets = pose_sets(d)
    made = trainer(sets, d)
    made.net.config = replace(made.net.config, attention_geometry=mode)
    history = made.fit(sets, pose_sets(d, 2, seed=5)).history
    assert len(history) == 3
    assert np.isfinite(history.to_numpy(dtype=float)).all()
    expected = {"current": [0, 0, 0], "clean": [1, 1, 1], "curriculum": [1, 1 - 1 / 1.8, 0]}[mode]
    assert np.allclose(history["clean_weight"], expected, atol=0.12)
    assert history["clean_weight"].iloc[-1] == expected[-1]
    total = (
        history[["translation", "rotation", "auxiliary", "local_mean", "scaling"]].sum(axis=1) + 0.05 * history["gate"]
    )
    assert np.allclose(history["total"], total, rtol=1e-4)
    assert (history["geo_scaled_absmax"] > 0).all()
    assert history["wmax_sat_frac"].between(0, 1).all()
    assert (history["log_det_min"] >= -20).all()


def test_the_same_seed_gives_the_same_network(global_random_state):
    def weights():
        recipe = FlowRecipe(config=CONFIG, training=RECIPE, plan=MinisetPlan(4, (50, 60), 15))
        fit = fit_flow(*parts([slide(1), slide(2)]), Folds.of([150, 150], Run()), recipe, Run())
        return fit.stage.net.state_dict(), fit.history

    (one, history), (other, again) = weights(), weights()
    assert all(torch.equal(one[name], other[name]) for name in one)
    pd.testing.assert_frame_equal(history, again)


def test_validation_draws_the_same_noise_and_touches_nothing():
    sets = pose_sets()
    made = trainer(sets)
    before = {name: value.clone() for name, value in made.net.state_dict().items()}
    one, other = (validate_flow(made.net, made.gate, sets) for _ in range(2))
    assert one == other
    assert all(torch.equal(value, before[name]) for name, value in made.net.state_dict().items())
    assert one["val_pose"] == pytest.approx(one["val_translation"] + one["val_rotation"] + one["val_auxiliary"])


def test_an_interrupted_run_keeps_what_it_has(monkeypatch):
    sets, calls = pose_sets(), iter(range(100))
    made = trainer(sets)
    losses = made.losses

    def interrupted(*args):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return losses(*args)

    monkeypatch.setattr(made, "losses", interrupted)
    run = made.fit(sets)
    assert run.interrupted
    assert run.best_epoch == len(run.history) - 1


@pytest.mark.parametrize("d", [2, 3])
def test_a_flow_learns_where_cells_lie(d):
    sets = pose_sets(d, 8)
    made = trainer(sets, d, max_epochs=22, gate_steps=50)
    run = made.fit(sets)
    first, last = run.history.iloc[0], run.history.iloc[-3:].mean()
    assert last["translation"] < 0.5 * first["translation"]
    assert last["scaling"] < first["scaling"]
    _, x, _ = slide(9, d, 80)
    found = drawn(made, slide(9, d, 80), 1)[0]
    assert np.corrcoef(torch.pdist(found), torch.pdist(torch.from_numpy(x)))[0, 1] > (0.8 if d == 2 else 0.6)


def drawn(made, cells, n_samples, n_steps=15):
    """Layouts of unseen cells, turned onto the first, ``(S, n, d)``."""
    h = torch.from_numpy(cells[0])[None]
    index = ipar.graph.candidates.candidate_mask(h, 20)
    scores = dense_gate(made.gate, h, index)
    with torch.no_grad():
        condition = made.net.condition(*(part.expand(n_samples, -1, -1) for part in (h, index, scores)))
    start = noise_poses((n_samples, h.shape[1]), made.net.config, torch.Generator().manual_seed(0))
    return torch.from_numpy(aligned_samples(follow_flow(made.net, condition, start, n_steps)).coords)


@pytest.mark.parametrize("mirrored", [False, True])
def test_samples_of_a_mirrored_tissue_show_both_modes(mirrored):
    """A cell far from the plane of symmetry lies left in some samples and right in others, and in none between."""
    sets = pose_sets(2, 8, mirrored=mirrored)
    made = trainer(sets, 2, max_epochs=45, gate_steps=50)
    made.fit(sets)
    cells = slide(9, 2, 80, mirrored=mirrored)
    samples = drawn(made, cells, 30)
    far = np.abs(cells[1][:, 0]) > 0.9  # of 1.5
    _, _, axes = torch.linalg.svd(samples[:, far].flatten(0, 1), full_matrices=False)
    place = (samples[:, far] @ axes[0]).numpy()  # along the longest axis, which the plane of symmetry halves
    other_side = np.minimum((place > 0).mean(0), (place < 0).mean(0))
    between = (np.abs(place) < 0.4).mean()
    assert between < 0.3
    if mirrored:
        assert np.median(other_side) > 0.2
    else:
        assert np.median(other_side) < 0.05
