"""The instrumented pass against the network's own intermediates, and what is left out where it cannot be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.training.diagnostics import diagnose, probe_set

SMALL = {"d_input": 8, "d_state": 12, "d_head": 6}
TRUTH = {"attention_recall", "attention_recall_chance", "gate_precision", "gate_recall"}
FREE = {"attention_entropy", "head_diversity", "rho_qk", "rho_gate", "logit_std", "displacement"}


def networks(config):
    torch.manual_seed(0)
    net, gate = IPALiteNet(config), EdgeGate(config.d_input, config.gate_heads)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "schedule" not in name and "logit_scale" not in name:
                p.add_(0.3 * torch.randn_like(p))
    return net, gate


@pytest.fixture
def probes():
    rng = np.random.default_rng(2)
    coords = [torch.from_numpy(rng.random((60, 2))).float() for _ in range(3)]
    waves = torch.from_numpy(5 * rng.normal(size=(2, 8))).float()
    return [probe_set(torch.sin(x @ waves), x, 35) for x in coords]


def pick(table, measure, recycle=0, head=0):
    rows = table[(table["measure"] == measure) & (table["recycle"] == recycle) & (table["head"] == head)]
    assert len(rows) == 1
    return rows["value"].item()


def test_true_neighbours_are_those_of_the_target_graph():
    coords = torch.from_numpy(np.random.default_rng(0).random((160, 2)))
    found = probe_set(torch.randn(160, 4), coords, 30).neighbors.numpy()
    nearest = cKDTree(coords).query(coords, k=25)[1][:, 1:]  # ⌊0.15·160⌋ = 24 and the cell itself
    expected = np.zeros((160, 160), dtype=bool)
    expected[np.arange(160)[:, None], nearest] = True
    assert (found == (expected | expected.T)).all()


def test_figures_are_those_of_the_forward_pass(probes):
    net, gate = networks(IPALiteConfig.d7(**SMALL))
    table = diagnose(net, gate, probes[:1], beta=0.7)
    one = probes[0]
    scores = dense_gate(gate, one.h[None], one.candidates[None])
    out = net(one.h[None], one.candidates[None], scores, beta=0.7, return_attention=True, return_terms=True)
    edge = one.candidates.numpy()
    for r, h in ((0, 0), (4, 3)):
        terms = {name: t[0].expand(4, -1, -1)[h].detach().numpy() for name, t in out.terms[r].items()}
        attention = out.attention[r, 0, h].detach().numpy()
        for name, term in terms.items():
            expected = spearmanr(attention[edge], term[edge]).statistic
            assert pick(table, f"rho_{name}", r + 1, h + 1) == pytest.approx(expected, abs=1e-6)
        assert pick(table, "logit_std", r + 1, h + 1) == pytest.approx(sum(terms.values())[edge].std(), rel=1e-4)
        top = np.argsort(-attention, axis=1)[:, :30]
        recall = np.take_along_axis(one.neighbors.numpy(), top, axis=1).mean()
        assert pick(table, "attention_recall", r + 1, h + 1) == pytest.approx(recall)
    step = (out.layouts[2] - out.layouts[1]).norm().item() / 60**0.5
    assert pick(table, "displacement", 2) == pytest.approx(step, rel=1e-4)
    top = np.argsort(-np.where(edge, scores[0].detach().numpy(), -np.inf), axis=1)[:, :30]
    hits = np.take_along_axis(one.neighbors.numpy(), top, axis=1).sum(1)
    assert pick(table, "gate_precision") == pytest.approx((hits / 30).mean())
    assert pick(table, "gate_recall") == pytest.approx((hits / one.neighbors.numpy().sum(1)).mean())
    chance = (edge & one.neighbors.numpy()).sum(1) / edge.sum(1)
    assert pick(table, "attention_recall_chance") == pytest.approx(chance.mean())


def test_mean_and_deviation_over_sets(probes):
    net, gate = networks(IPALiteConfig.v1(**SMALL))
    singles = [diagnose(net, gate, [one]) for one in probes]
    table = diagnose(net, gate, probes)
    values = np.stack([one["value"] for one in singles])
    np.testing.assert_allclose(table["value"], values.mean(0))
    np.testing.assert_allclose(table["sd"], values.std(0))
    assert (table["n_sets"] == 3).all()
    assert not table.duplicated(["measure", "recycle", "head"]).any()


def test_without_coordinates_what_needs_them_is_absent_and_the_rest_the_same(probes):
    net, gate = networks(IPALiteConfig.v1(**SMALL))
    known, blind = diagnose(net, gate, probes), diagnose(net, gate, [replace(p, neighbors=None) for p in probes])
    assert set(known["measure"]) == TRUTH | FREE
    assert set(blind["measure"]) == FREE
    rest = known[known["measure"].isin(FREE)].reset_index(drop=True)
    assert blind.equals(rest)
    assert np.isfinite(known["value"]).all()


def test_every_member_has_the_measures_of_what_it_has(probes):
    def of(config):
        table = diagnose(*networks(config), probes[:1])
        return table, set(table["measure"]) - TRUTH - FREE

    assert of(IPALiteConfig.d7(**SMALL))[1] == {"rho_geometry"}
    table, extra = of(IPALiteConfig.ipar2d(gate_heads=4, **SMALL))
    assert extra == {"rho_geometry", "rho_pair", "offset_query", "offset_key"}
    assert set(table[table["measure"] == "offset_query"]["recycle"]) == {3}  # geometry in the last recycle only
    assert table[table["measure"] == "gate_precision"]["head"].tolist() == [1, 2, 3, 4]
    bare, _ = of(IPALiteConfig.v1(n_heads=1, gate=False, **SMALL))
    assert not {"head_diversity", "rho_gate"} & set(bare["measure"])


def test_offsets_are_their_mean_norm(probes):
    net, gate = networks(IPALiteConfig.v1(geometry="point", **SMALL))
    table = diagnose(net, gate, probes[:1])
    one = probes[0]
    states = []
    net.blocks[0].norm.register_forward_pre_hook(lambda _, arguments: states.append(arguments[0].detach()))
    net(one.h[None], one.candidates[None], dense_gate(gate, one.h[None], one.candidates[None]))
    weight = net.blocks[0].geometry.key_offset.weight.detach()
    moved = (states[3][0] @ weight.T).numpy().reshape(60, 4, 2)
    expected = np.linalg.norm(moved, axis=-1).mean(0)
    found = table[(table["measure"] == "offset_key") & (table["recycle"] == 4)]["value"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_constant_term_has_no_correlation(probes):
    config = IPALiteConfig.v1(geometry="rbf", **SMALL)
    net, gate = networks(config)
    with torch.no_grad():
        net.blocks[0].geometry.weight.zero_()
    assert "rho_geometry" not in set(diagnose(net, gate, probes[:1])["measure"])
