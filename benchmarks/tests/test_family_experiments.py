from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from benchmarks.family import candidates, experiment_report, experiments, fits
from benchmarks.iga import experiments as iga
from benchmarks.iga import scores as space
from benchmarks.iga.run import embed
from benchmarks.tasks.embedded import Embedded
from benchmarks.tasks.records import keep
from benchmarks.tasks.tasks import split
from ipar import metrics
from ipar.training import FlowTraining, IPALiteTraining, MinisetPlan, NetworkRecipe
from ipar.training.health import candidate_recall

TINY = fits.Protocol(
    recipe=NetworkRecipe(
        plan=MinisetPlan(4, (24, 30), 20), training=IPALiteTraining(max_epochs=2, ramp_epochs=1, gate_steps=2)
    ),
    n_scored=2,
)


@pytest.fixture(scope="module")
def embedded():
    rng = np.random.default_rng(0)
    x = [rng.random((40, 2)).astype(np.float32) for _ in range(3)]
    h = [np.tanh(4 * c @ np.ones((2, 8)) + rng.normal(size=(40, 8))).astype(np.float32) for c in x]
    return Embedded(h[:2], x[:2], h[:2], h[2], x[2])


def test_no_two_variants_are_the_same_recipe():
    recipes = {name: one.of(NetworkRecipe()) for name, one in experiments.VARIANTS.items()}
    assert recipes[experiments.DEFAULT] == NetworkRecipe()
    for (name, one), (other, two) in combinations(recipes.items(), 2):
        assert one != two, (name, other)
    grid = [one for name, one in recipes.items() if name.startswith("walk")]
    assert {(one.training.weights.walk, one.training.ramp_epochs, one.training.weights.stress) for one in grid} == {
        (walk, ramp, stress) for walk in (0.3, 0.5, 1.0) for ramp in (6, 12) for stress in (0.1, 0.2, 0.3)
    }
    default, long = recipes[experiments.DEFAULT], grid[0]
    steps = [one.plan.n_minisets * one.training.max_epochs for one in (default, long)]
    assert steps[0] == steps[1]
    assert all(set(names) <= set(experiments.VARIANTS) for names in (experiments.BASES.values(), [experiments.DEFAULT]))


def test_a_variant_is_scored_as_the_family_is(embedded):
    found = experiments.measure(experiments.VARIANTS[experiments.DEFAULT], embedded, 0, TINY)
    json.dumps(found)
    assert found["e_geo_gated"] == fits.measure_recipe(TINY.recipe, embedded, 0, TINY)["e_geo_gated"]
    trained = experiments.BETAS.index(TINY.recipe.config.beta)
    assert found["by_beta"]["test"][trained] == pytest.approx(found["e_geo_gated"])
    assert len(found["by_beta"]["held_out"]) == len(experiments.BETAS)


def test_beta_is_chosen_without_the_scored_slide(embedded):
    variant = experiments.VARIANTS[experiments.DEFAULT]
    moved = replace(embedded, truth=embedded.truth[::-1].copy())
    one, two = (experiments.measure(variant, given, 0, TINY)["by_beta"] for given in (embedded, moved))
    assert one["held_out"] == two["held_out"]
    assert one["test"] != two["test"]


def test_gains_are_over_the_first_row(tmp_path):
    curves = {"held_out": [2.0, 1.0, *[3.0] * 6], "test": [4.0, 1.6, *[2.0] * 5, 1.0]}
    for name, seed, energy in (
        (experiments.DEFAULT, 0, 2.0),
        (experiments.DEFAULT, 1, 2.0),
        ("augmentation none", 0, 1.6),
    ):
        record = {"task": "brain2", "variant": name, "seed": seed, "e_geo_gated": energy, "by_beta": curves}
        keep("family_experiments", record, tmp_path)
    lines = experiment_report.experiments(tmp_path)
    assert "| the default | 2.00 ± 0.00 | not measured |" in lines
    assert "| augmentation none | 1.60 (+25.0, 1) | not measured |" in lines
    assert "| brain2 | the default | 0.0625, 0.0625 | +25.0 | +100.0 |" in lines


def test_a_factor_is_compared_with_all_else_alike():
    names = experiments.pairs_of(experiments.WALK, "walk")
    assert {value: len(pairs) for value, pairs in names.items()} == {0.5: 6, 1.0: 6}
    assert ("walk 1, ramp 12, stress 0.2", "walk 0.3, ramp 12, stress 0.2") in names[1.0]
    assert {value: len(pairs) for value, pairs in experiments.pairs_of(experiments.WALK, "ramp").items()} == {12: 9}
    gates = experiments.pairs_of(experiments.GATE, "λ")
    assert sorted(gates) == [0.01, 0.2]
    assert ("β 2, λ 0.2", experiments.DEFAULT) in gates[0.2]
    assert ("β 4, λ 0.2", "β 4, λ 0.05") in gates[0.2]


def test_effects_of_a_factor_are_means_over_the_others(tmp_path):
    for name in experiments.VARIANTS:
        energy = 1.0 * (1.1 if "walk 1," in name else 1.0) * (0.9 if "ramp 12" in name else 1.0)
        keep("family_experiments", {"task": "brain2", "variant": name, "seed": 0, "e_geo_gated": energy}, tmp_path)
    lines = experiment_report.effects(experiment_report.by_name("family_experiments", tmp_path))
    assert "| walk | 1 | 0.3 | -9.1 [-9.1, -9.1] | 6 |" in lines
    assert "| walk | 0.5 | 0.3 | +0.0 [+0.0, +0.0] | 6 |" in lines
    assert "| ramp | 12 | 6 | +11.1 [+11.1, +11.1] | 9 |" in lines


def test_recall_is_that_of_a_search_by_hand(embedded):
    noise = np.random.default_rng(1).normal(size=embedded.test.shape).astype(np.float32)  # has no ties
    one = replace(embedded, test=noise).scored(1, (24, 30), 20, 0)[0]
    h, true = one.h.numpy().astype(float), one.walk.adjacency.numpy()
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    square = np.square(h[:, None] - h[None]).sum(-1)
    for name, order in (("cosine", -(unit @ unit.T)), ("Euclidean", square)):
        shares = []
        for i, row in enumerate(order):
            near = [j for j in np.argsort(row, kind="stable") if j != i][:8]
            shares.append(true[i, near].sum() / max(true[i].sum(), 1))
        found = candidate_recall([one], (8,), candidates.DISTANCES[name])
        assert found["8"] == pytest.approx(np.mean(shares), abs=1e-4), name


def test_recall_grows_with_candidates_and_beats_chance(embedded, tmp_path):
    rng = np.random.default_rng(2)
    x = rng.random((300, 2)).astype(np.float32)
    h = np.concatenate([np.cos(3 * x), np.sin(3 * x), rng.normal(size=(300, 2))], axis=1).astype(np.float32)
    protocol = replace(TINY, recipe=replace(TINY.recipe, plan=MinisetPlan(4, (200, 240), 20)))
    found = candidates.measure(replace(embedded, test=h, truth=x), 0, protocol)["recall"]
    for row in found.values():
        assert np.diff(list(row.values())).min() > 0
    assert all(found[name][str(k)] > 1.1 * found["random"][str(k)] for name in candidates.DISTANCES for k in (60, 80))
    keep("candidates", {"task": "brain2", "seed": 0, "recall": found}, tmp_path)
    lines = experiment_report.recalls(tmp_path)
    assert f"| brain2 | random | 1 | {' | '.join(f'{x:.3f}' for x in found['random'].values())} |" in lines


def test_ellipsoids_in_space(adata, hasty_recipe):
    block = adata.copy()
    flat = block.obsm["spatial"]
    block.obsm["spatial3d"] = np.column_stack([flat, flat[:, 0] ** 2])
    slides = split(iga.in_blocks(block), iga.SPACE)
    truth, known = slides.truth, slides.train.obsm["spatial"]
    assert truth.shape[1] == known.shape[1] == 3
    assert set(slides.train.obs["slide"]) == {"block 1", "block 2", "block 3"}
    assert truth[:, :2].min(axis=0) == pytest.approx(truth[:, :2].min(axis=0).clip(np.median(flat, axis=0)))
    arrays = embed(slides, 0, replace(hasty_recipe, inputs="pca"))
    plan, training = MinisetPlan(n_minisets=3, size=(20, 24), n_neighbors=8), FlowTraining(max_epochs=1, gate_steps=1)
    found = {
        name: iga.measure(one, arrays, 0, plan, training) for name, one in iga.VARIANTS.items() if "weight" not in name
    }
    json.dumps(found)
    assert found["pose only"]["train"]["scaling"] == 0 < found["pose and ellipsoid"]["train"]["scaling"]


def test_scores_in_space_are_those_of_the_plane_where_it_is_flat():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 2)) * [1.5, 1.0]
    layout = truth + 0.3 * rng.normal(size=(60, 2))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    flat, moved = np.pad(truth, ((0, 0), (0, 1))), 5 * np.pad(layout, ((0, 0), (0, 1))) @ turn + 2
    assert space.rmse(flat, moved) == pytest.approx(metrics.procrustes_error(truth, layout).rmse)
    assert space.shared_neighbors(flat, moved, 20) == pytest.approx(metrics.knn_hit(truth, layout, n_neighbors=20))
    assert space.rank_correlation(flat, 3 * flat @ turn) == pytest.approx(1.0)
    assert abs(space.rank_correlation(flat, rng.permutation(flat))) < 0.2
