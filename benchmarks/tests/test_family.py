from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks.family import claims, ladder, ladder_figure, members, polish, rungs
from benchmarks.family import fits as family
from benchmarks.family import report as family_report
from benchmarks.tasks.embedded import Embedded
from benchmarks.tasks.records import keep
from ipar.nn import EdgeGate
from ipar.nn.terms import PointTerm
from ipar.training import IPALiteTraining, MinisetPlan, NetworkRecipe, Optimisation

TINY = family.Protocol(
    recipe=NetworkRecipe(
        plan=MinisetPlan(4, (24, 30)), training=IPALiteTraining(max_epochs=2, ramp_epochs=1, gate_steps=2)
    ),
    n_scored=2,
    n_oracle=1,
    n_probed=1,
    oracle=Optimisation(n_steps=400, lr=0.1),
)


@pytest.fixture(scope="module")
def slides():
    """Slides whose embedding holds their coordinates."""
    rng = np.random.default_rng(0)
    x = [rng.random((40, 2)).astype(np.float32) for _ in range(3)]
    h = [np.tanh(4 * c @ np.ones((2, 8)) + rng.normal(size=(40, 8))).astype(np.float32) for c in x]
    return Embedded(h[:2], x[:2], h[:2], h[2], x[2])


@pytest.fixture(scope="module")
def result(slides):
    return family.measure(members.MEMBERS["v1"], slides, 0, TINY)


def test_every_row_of_the_design_is_a_member():
    configs = {name: m.config() for name, m in members.MEMBERS.items()}
    assert len(configs) == 23
    assert {c.qk_norm for c in configs.values()} == {None, "scaled", "cosine"}
    assert {c.geometry for c in configs.values()} == {"none", "clamped", "monotone", "rbf", "point"}
    assert {members.MEMBERS[name].n_neighbors for name in ("v1", "k60", "k80", "k120")} == {60, 80, 100, 120}
    assert {configs[name].gate_supervision for name in ("v1", "t2", "mix")} == {"T1", "T2", "mix"}
    assert [configs[name].n_recycles for name in ("v2_r3", "v2_r5")] == [3, 5]
    assert configs["v2_last"].geometry_recycles == (-1,)
    assert {name for claim in members.CLAIMS for name in (claim.better, claim.worse)} <= set(configs)


def test_scores_of_a_member(result):
    json.dumps(result)
    assert 0 < result["e_geo_target"] < 10
    assert 0 < result["e_geo_gated"] < 10
    assert -1 < result["luna_spearman"] < 1
    by_recycle = result["health"]["attention_recall"]
    assert result["recall30"] == by_recycle[-1]
    assert len(by_recycle) == 5
    assert 0 < result["health"]["attention_recall_chance"] < 1
    assert result["epochs"] in (1, 2)


def test_members_are_trained_by_the_default_recipe():
    default, member = NetworkRecipe(), members.MEMBERS["k60"]
    assert family.recipe_of(members.MEMBERS["v1"], family.Protocol().recipe) == default
    assert family.recipe_of(member, default) == replace(default, plan=replace(default.plan, n_neighbors=60))


def test_the_scored_slide_reaches_no_choice(slides, result):
    other = replace(slides, truth=slides.truth[::-1].copy(), test=slides.test)
    found = family.measure(members.MEMBERS["v1"], other, 0, TINY)
    assert found["epochs"] == result["epochs"]
    assert found["held_out"] == result["held_out"]
    recipe = family.recipe_of(members.MEMBERS["v1"], TINY.recipe)
    one, two = (family.train(recipe, given, 0).stage.modules for given in (slides, other))
    for a, b in zip(one, two, strict=True):
        for name, value in a.state_dict().items():
            assert np.array_equal(value, b.state_dict()[name])
    assert found["e_geo_gated"] != result["e_geo_gated"]


def test_without_a_gate_its_weights_are_of_no_account(slides, monkeypatch):
    found = family.measure(members.MEMBERS["static"], slides, 0, TINY)
    assert found["parameters"]["gate"] == 0

    class Spoilt(EdgeGate):
        def forward(self, *args, **options):
            return super().forward(*args, **options) * 50

    monkeypatch.setattr("ipar.training.network.EdgeGate", Spoilt)
    again = family.measure(members.MEMBERS["static"], slides, 0, TINY)
    assert again["e_geo_gated"] == found["e_geo_gated"]


def test_a_term_that_falls_with_the_distance_prefers_near_cells(slides):
    found = family.measure(members.MEMBERS["d7"], slides, 0, TINY)
    assert len(found["rho_distance"]) == len(found["rho_attention"]) == 5
    np.testing.assert_allclose(found["rho_distance"], -1, atol=0.01)  # −softplus(γ)·d² has its order
    last = family.measure(members.MEMBERS["v2_last"], slides, 0, TINY)
    assert len(last["rho_distance"]) == 1
    assert "offsets" not in found


def test_offsets_are_measured_and_a_term_without_order_has_no_correlation(slides, monkeypatch):
    found = family.measure(members.MEMBERS["point"], slides, 0, TINY)
    assert len(found["offsets"]) == 5
    assert min(found["offsets"]) > 0
    monkeypatch.setattr(
        PointTerm, "forward", lambda self, s, x, graph: torch.full((1, 4, x.shape[1], x.shape[1]), -10.0)
    )
    constant = family.measure(members.MEMBERS["point"], slides, 0, TINY)
    assert constant["rho_distance"] == [None] * 5


def test_controls(slides):
    noise = family.with_noise(slides, 0)
    for a, b in zip([*slides.train, slides.test], [*noise.train, noise.test], strict=True):
        assert a.shape == b.shape
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.3
    assert np.array_equal(noise.truth, slides.truth)
    oracle = family.measure(members.MEMBERS["oracle"], slides, 0, TINY)
    assert oracle["e_geo_gated"] is None
    assert oracle["e_geo_target"] < 0.1


def run(energy, recall=0.5, seconds=3.0):
    scores = {"e_geo_gated": energy, "e_geo_target": 0.3, "recall30": recall, "luna_spearman": 0.6}
    health = {"attention_recall_chance": 0.2, "logit_std": [5.0, 4.0], "attention_entropy": [2.0, 3.0]}
    return scores | {"health": health, "parameters": {"net": 1000, "gate": 20}, "seconds": seconds}


def test_gains_are_paired_and_have_the_interval_of_student():
    claim = members.Claim("one is better", "v1", "d7")
    runs = {"v1": {0: run(1.0), 1: run(1.0), 2: run(1.0)}, "d7": {1: run(1.5), 0: run(1.2), 3: run(9.0)}}
    gains = claims.differences(claim, runs)
    np.testing.assert_allclose(gains, np.log([1.2, 1.5]))
    gain = claims.pooled(claim, [runs, {}])
    low, high = ttest_1samp(gains, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([gain.mean, gain.low, gain.high], 100 * np.expm1([gains.mean(), low, high]))
    by_recall = replace(claim, score="recall30")
    runs["v1"][0]["recall30"] = 0.7
    np.testing.assert_allclose(claims.differences(by_recall, runs), [0.2, 0.0])
    assert claims.pooled(by_recall, [runs]).mean == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("ratios", "decided", "alike"),
    [
        ([1.3, 1.2, 1.25] * 2, "confirmed", "**contradicted**: better"),
        ([0.8, 0.8, 0.81] * 2, "**contradicted**", "**contradicted**: worse"),
        ([1.3, 0.7, 1.1] * 2, "open", "open"),
        ([1.01, 1.02, 1.015] * 2, "confirmed", "alike"),
        ([1.01, 0.99, 1.0] * 2, "alike", "alike"),
        ([1.3, 1.2, 1.25], "open", "open"),
        ([], "not measured", "not measured"),
    ],
)
def test_a_claim_is_decided_by_the_interval(ratios, decided, alike):
    for is_alike, outcome in ((False, decided), (True, alike)):
        claim = members.Claim("", "v1", "d7", alike=is_alike)
        assert claims.Gain.of(claim, np.log(ratios)).verdict(claim) == outcome


def test_the_part_of_the_docs_has_what_was_measured():
    results = {"a": {"v1": {0: run(1.0), 1: run(2.0)}, "k60": {0: run(1.5)}}, "b": {"v1": {0: run(3.0)}}}
    lines = claims.in_short(results).splitlines()
    assert "| V1: shared block, 5 recycles | 1.50 ± 0.71 (2) | 3.00 (1) |" in lines
    assert "| k = 60 | 1.50 (1) | – |" in lines
    assert sum(line.startswith("| ") for line in lines) == 3 + 1 + len(members.CLAIMS)


def test_members_have_the_seeds_that_their_claims_need():
    assert {name for name in members.MEMBERS if members.n_seeds_of(name) == 6} == {
        *("v1", "v2_r3", "v2_last", "point", "heads", "t2", "k80", "k60", "ipar2d")
    }
    assert members.n_seeds_of("rbf") == 3
    assert members.n_seeds_of("oracle") == 1


def test_page_has_every_member_with_its_figures(tmp_path, monkeypatch):
    for seed in range(2):
        keep("family", {"task": "brain2", "member": "v1", "seed": seed, **run(1.0 + seed)}, tmp_path)
    rung = {"figures": {"walk": 0.5}, "checks": {"walk": False}, "passed": False, "seconds": 1.0}
    keep("ladder", {"task": "brain2", "rung": "oracle", **rung}, tmp_path)
    for seed, after in enumerate((0.75, 0.25)):
        scores = {when: dict.fromkeys(polish.SCORES, v) for when, v in (("before", 0.5), ("after", after))}
        keep("polish", {"task": "brain2", "seed": seed, **scores}, tmp_path)
    page = family_report.page(family.Protocol(), ["brain2"], tmp_path, None)
    lines = page.splitlines()
    scores = "1.50 ± 0.71 | 0.30 ± 0.00 | 0.60 ± 0.00 | 0.50 ± 0.00 | 4.0 ± 0.0 | 3.0 ± 0.0"
    assert f"| V1: shared block, 5 recycles (2 seeds) | {scores} | 1,000 + 20 | 3 |" in page
    for member in members.MEMBERS.values():
        assert any(line.startswith((f"| {member.label} |", f"| {member.label} (")) for line in lines), member.label
    assert any(line.startswith("| brain2 | refined | 0.50 ± 0.35 (1 of 2) |") for line in lines)
    assert any("oracle near zero | walk 0.5" in line and "**no**" in line for line in lines)


@pytest.fixture
def setting(slides, tmp_path):
    options = argparse.Namespace(out=tmp_path, seeds=[0, 1], data=tmp_path, cache=tmp_path, fresh=False)
    return rungs.Setting(slides, "ob", options, n_sets=2, n_overfit=3, n_oracle=600, size=(24, 30))


def test_lower_rungs_hold_on_small_slides(setting):
    for name in ("operator", "oracle"):
        found = ladder.climb(ladder.RUNGS[name], setting)
        assert found["passed"], found
        json.dumps(found)
    with pytest.MonkeyPatch.context() as patch:  # a walk that is not the definition's does not pass
        patch.setattr(rungs, "walk_by_definition", lambda x: np.full((len(x), len(x)), 1 / len(x)))
        assert not ladder.climb(ladder.RUNGS["operator"], setting)["passed"]


def test_upper_rungs_read_the_familys_results(setting, monkeypatch):
    for seed, energy in enumerate((1.0, 1.2)):
        keep("family", {"task": "ob", "member": "v1", "seed": seed, **run(energy)}, setting.options.out)
    found, _ = rungs.seeds(setting)
    assert found["E_geo, candidates and gate"] == pytest.approx(1.1)
    assert found["sd over seeds ÷ mean"] == pytest.approx(np.sqrt(0.02) / 1.1)
    assert rungs.whole_method(setting)[0]["E_geo, candidates and gate"] == 1.0


def test_networks_of_the_ladder_train_are_scored_and_drawn(setting, monkeypatch, tmp_path):
    monkeypatch.setattr(family, "Protocol", lambda: TINY)
    climbed = {}
    for name in ("overfit", "random", "target"):
        climbed[name] = result = ladder.climb(ladder.RUNGS[name], setting)
        assert set(result["figures"]) >= set(ladder.RUNGS[name].bounds)
        for pair in result["layouts"].values():
            true, layout = np.array(pair["true"]), np.array(pair["found"])
            assert true.shape == layout.shape
            # turned and scaled onto the truth: no worse than all cells in one place
            assert np.square(true - layout).sum() <= np.square(true).sum() + 0.1
    ladder_figure.draw(climbed, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").stat().st_size > 5_000


def test_target_edges_take_the_place_of_candidates(setting):
    one = setting.sets()[0]
    batch = rungs.collate([rungs.on_target_edges(one)])
    assert np.array_equal(batch.candidates, batch.adjacency)


def test_overfitting_warms_up_on_the_stress_alone(setting, monkeypatch):
    seen = []
    original = rungs.layout_losses

    def spied(x, batch):
        losses = original(x, batch)
        losses.walk.register_hook(lambda gradient: seen.append(gradient.item()))
        return losses

    monkeypatch.setattr(rungs, "layout_losses", spied)
    rungs.overfitted(setting.sets()[0], replace(setting, n_overfit=10, n_warmup=3, n_ramp=4))
    assert seen == pytest.approx([0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])


def test_collapse_is_seen():
    line = np.column_stack([np.linspace(-1, 1, 30), np.zeros(30)]).astype(np.float32)
    batch = argparse.Namespace(mask=torch.ones(1, 30, dtype=torch.bool))
    assert rungs.standing(torch.from_numpy(line)[None], batch)["smallest λ₂/λ₁"] < 0.01
    heap = torch.zeros(1, 30, 2)
    heap[0, 0] = 1.0
    assert rungs.standing(heap, batch)["smallest median distance"] < 0.01


def test_polishing_is_measured_on_a_training_slide(slides):
    nothing = replace(slides, test=slides.test[:0], truth=slides.truth[:0])
    found = polish.measure(nothing, 0, TINY)
    assert set(found) == {"before", "after"}
    assert set(found["before"]) == set(polish.SCORES)
    assert found["before"] != found["after"]
