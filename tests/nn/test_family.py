"""Every member of the family: sizes, both forms of the graph, and numbers that stay finite."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ipar.graph.candidates import cosine_candidates
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of
from ipar.nn.terms import PointTerm, RBFTerm, RecycleSchedule

SMALL = {"d_input": 8, "d_state": 12, "d_head": 6}
V1, V2, D7, IPAR = IPALiteConfig.v1, IPALiteConfig.v2, IPALiteConfig.d7, IPALiteConfig.ipar2d
MEMBERS = {
    "v1": V1(**SMALL),
    "v2": V2(**SMALL),
    "v2-last": V2(geometry="clamped", geometry_recycles=(-1,), **SMALL),
    "d7": D7(**SMALL),
    "rbf": V1(geometry="rbf", **SMALL),
    "point": V1(geometry="point", **SMALL),
    "pair": V1(pair_bias=True, **SMALL),
    "heads": V1(gate_heads=4, **SMALL),
    "ipar2d": IPAR(**SMALL),
    "no qk": D7(qk=False, **SMALL),
    "no gate": IPAR(gate=False, **SMALL),
}


def made(config, *, dtype=torch.float64, spread=1.0):
    """A network and gate without zero weights."""
    net, gate = IPALiteNet(config).to(dtype).eval(), EdgeGate(config.d_input, config.gate_heads).to(dtype)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "schedule" in name or "logit_scale" in name:
                continue
            scale = 0.3 if "step" in name else 0.5 if p.ndim < 2 else 1.5 / np.sqrt(p.shape[-1])
            p.add_(spread * scale * torch.randn_like(p))
    return net, gate


def energy(net, gate, h, index, form, target):
    """Layouts, attention on candidates and gradients, by one form of the graph."""
    graph = graph_of(index, form=form)
    out = net(h, graph, dense_gate(gate, h, graph), return_attention=True)
    attention = (
        out.attention
        if form == "edges"
        else out.attention.gather(
            -1, index[None, :, None].expand(len(out.attention), -1, out.attention.shape[2], -1, -1)
        )
    )
    gradients = torch.autograd.grad(
        (out.layouts * target).sum(),
        [h, *(p for p in net.parameters() if p.requires_grad), *(p for p in gate.parameters() if p.requires_grad)],
        allow_unused=True,
    )
    return out.layouts, attention, gradients


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (V1(), 154_678),
        (V1(n_recycles=1), 154_678),
        (V1(d_input=64), 136_246),
        (V1(d_input=64, d_state=64), 78_550),
        (V2(), 352_277),
        (V2(geometry="clamped", geometry_recycles=(-1,)), 352_281),
        (V2(n_recycles=5), 549_879),
        (V2(n_recycles=5, geometry="clamped", geometry_recycles=(2, 3, 4)), 549_891),
        (V1(pair_bias=True), 154_678 + 35_040),
        (IPAR(), 389_119),
    ],
)
def test_parameters(config, count):
    assert sum(p.numel() for p in IPALiteNet(config).parameters()) == count


@pytest.mark.parametrize("supervision", ["T1", "T2", "mix"])
def test_gate_supervision_costs_no_parameters(supervision):
    for config in (V1(gate_supervision=supervision), V2(gate_supervision=supervision)):
        bare = replace(config, gate_supervision="T1")
        assert [p.shape for p in IPALiteNet(config).parameters()] == [p.shape for p in IPALiteNet(bare).parameters()]


def test_a_term_left_out_is_gone_from_the_logits_and_all_others_stay():
    h = torch.randn(1, 30, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 9))
    full = IPAR(**SMALL)
    assert full.terms == ("qk", "geometry", "pair", "gate")
    for term in full.terms:
        config = full.without(term)
        assert set(config.terms) == set(full.terms) - {term}
        net, gate = made(config)
        out = net(h, graph, dense_gate(gate, h, graph), return_attention=True, return_terms=True)
        found = out.terms[-1]  # the recycle with geometry
        assert set(found) == set(config.terms)
        logits = sum(found.values()).masked_fill(~graph.mask[:, None], float("-inf"))
        assert torch.allclose(logits.softmax(-1), out.attention[-1], atol=1e-9)
    with pytest.raises(ValueError, match=r"term must be one that the config has, \('qk', 'gate'\), found 'geometry'"):
        V1().without("geometry")


def test_without_its_term_the_gate_changes_nothing_and_without_qk_there_are_no_such_weights():
    h = torch.randn(1, 30, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 9))
    net, gate = made(V1(gate=False, **SMALL))
    assert torch.equal(net(h, graph, dense_gate(gate, h, graph), beta=4.0).coords, net(h, graph).coords)
    names = {name.split(".")[2] for name, _ in IPALiteNet(D7(qk=False)).named_parameters() if name.startswith("blocks")}
    assert not names & {"query", "key", "logit_scale"}


def test_states_are_those_that_each_recycle_read():
    h = torch.randn(1, 30, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 9))
    net, _ = made(MEMBERS["v2"])
    seen = []
    for block in net.blocks:
        block.norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    out = net(h, graph, return_terms=True)
    assert torch.equal(out.states, torch.stack(seen))
    assert net(h, graph).states is None


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("k", [1, 7, 29])
def test_both_forms_of_the_graph_agree(name, k):
    net, gate = made(MEMBERS[name])
    h = torch.randn(2, 30, 8, dtype=torch.float64, requires_grad=True)
    index, target = cosine_candidates(h.detach(), k), torch.randn(2, 30, 2, dtype=torch.float64)
    dense, edges = (energy(net, gate, h, index, form, target) for form in ("dense", "edges"))
    assert torch.allclose(dense[0], edges[0], atol=1e-9)
    assert torch.allclose(dense[1], edges[1], atol=1e-9)
    for a, b in zip(dense[2], edges[2], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_slots_that_are_closed_are_as_good_as_missing(name):
    net, gate = made(MEMBERS[name])
    h = torch.randn(1, 20, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 6), form="edges")
    closed = torch.rand(graph.mask.shape) < 0.4
    closed[:, 3] = True  # a cell without any candidate
    thinned = replace(graph, mask=graph.mask & ~closed)
    one, other = (net(h, g, dense_gate(gate, h, g)).layouts for g in (thinned, thinned.dense()))
    assert torch.allclose(one, other, atol=1e-9)
    # what a closed slot points to is of no account
    elsewhere = replace(thinned, index=thinned.index.masked_fill(closed, 0))
    assert torch.allclose(net(h, elsewhere, dense_gate(gate, h, elsewhere)).layouts, one, atol=1e-9)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("form", ["dense", "edges"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_cells_coincide_or_have_no_candidates(name, form, dtype):
    net, gate = made(MEMBERS[name], dtype=dtype)
    h = torch.randn(2, 25, 8, dtype=dtype)
    h[0, :10] = h[0, 0]  # ten cells in one place
    h[1] = h[1, :1]  # a whole set
    h.requires_grad_()
    graph = graph_of(cosine_candidates(h.detach(), 5), form=form)
    graph.mask[0, 12] = False
    out = net(h, graph, dense_gate(gate, h, graph))
    (out.coords * torch.randn_like(out.coords)).sum().backward()
    assert torch.isfinite(out.layouts).all()
    for grad in (h.grad, *(p.grad for p in [*net.parameters(), *gate.parameters()] if p.grad is not None)):
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 1), (4, 3)])
def test_tiny_sets(name, n, k):
    net, gate = made(MEMBERS[name])
    h = torch.randn(1, n, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, k), form="edges")
    assert torch.isfinite(net(h, graph, dense_gate(gate, h, graph)).layouts).all()


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("rows", [1, 7, 30])
def test_neighbours_gathered_block_by_block_are_the_same(name, rows, monkeypatch):
    net, gate = made(MEMBERS[name])
    h = torch.randn(2, 30, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 6), form="edges")
    whole = net(h, graph, dense_gate(gate, h, graph)).layouts
    monkeypatch.setattr("ipar.nn.graph.CandidateGraph.ROWS", rows)
    monkeypatch.setattr("ipar.nn.gate.EdgeMLP.PIECE", (5 * rows, 5 * rows))
    assert torch.allclose(net(h, graph, dense_gate(gate, h, graph)).layouts, whole, atol=1e-10)


def test_large_sets_take_neighbour_lists_by_themselves():
    small, large = (graph_of(cosine_candidates(torch.randn(1, n, 4), 6)) for n in (500, 501))
    assert small.mask.shape == (1, 500, 500)
    assert large.mask.shape == (1, 501, 6)
    with pytest.raises(ValueError, match="form must be 'auto', 'dense' or 'edges', found 'sparse'"):
        graph_of(large.index, form="sparse")


def test_qk_norm_bounds_the_logits_and_its_absence_does_not():
    h = torch.randn(1, 40, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 39))

    def spread(config, factor):
        net = made(config)[0]
        with torch.no_grad():
            for block in net.blocks:
                block.query.weight.mul_(factor)
                block.key.weight.mul_(factor)
        terms = net(h, graph, return_terms=True).terms
        return max(term["qk"].detach().std().item() for term in terms)

    for norm, most in (("cosine", 6**0.5), ("scaled", 6**1.5)):  # a scale of √d times a cosine, or d times that
        assert max(spread(V2(qk_norm=norm, **SMALL), factor) for factor in (1.0, 100.0)) <= most
    free = [spread(V2(qk_norm=None, **SMALL), factor) for factor in (1.0, 100.0)]
    assert free[1] > 1000 * free[0]


@pytest.mark.parametrize("norm", ["scaled", "cosine"])
def test_qk_norm_by_its_formula(norm):
    net, _ = made(V1(qk_norm=norm, **SMALL))
    with torch.no_grad():
        net.blocks[0].logit_scale.fill_(0.3)
    h = torch.randn(1, 15, 8, dtype=torch.float64)
    out = net(h, graph_of(cosine_candidates(h, 14)), return_terms=True)
    q, k = (
        layer(out.states[0])[0].view(15, 4, 6).detach().numpy() for layer in (net.blocks[0].query, net.blocks[0].key)
    )
    q, k = ((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) for x in (q, k))
    expected = np.exp(0.3) * np.einsum("ihd,jhd->hij", q, k) / (6 if norm == "cosine" else 1)
    np.testing.assert_allclose(out.terms[0]["qk"][0].detach().numpy(), expected, atol=1e-9)


def test_members_have_the_norm_of_the_recipe_and_start_with_its_spread():
    assert [member().qk_norm for member in (V1, V2, D7, IPAR)] == [None, "scaled", "scaled", "scaled"]
    h = torch.randn(1, 100, 128)
    graph = graph_of(cosine_candidates(h, 99))
    found = {
        norm: IPALiteNet(V2(qk_norm=norm)).eval()(h, graph, return_terms=True).terms[0]["qk"].std().item()
        for norm in ("scaled", "cosine")
    }
    assert 16 < found["scaled"] < 64  # about d = 32
    assert 0.5 < found["cosine"] < 2


def test_a_config_of_an_earlier_version_keeps_its_norm():
    for stored, norm in ((True, "cosine"), (False, None)):
        assert IPALiteConfig.from_dict(V1().to_dict() | {"qk_norm": stored}) == V1(qk_norm=norm)
    old = {name: value for name, value in V1().to_dict().items() if name != "qk_norm"}
    assert IPALiteConfig.from_dict(old) == V1()
    with pytest.raises(ValueError, match=r"qk_norm must be one of \('scaled', 'cosine'\), found True"):
        V1(qk_norm=True)


def test_terms_add_up_to_what_attention_is_made_of():
    net, gate = made(MEMBERS["ipar2d"])
    h = torch.randn(1, 20, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 6), form="edges")
    out = net(h, graph, dense_gate(gate, h, graph), return_attention=True, return_terms=True)
    assert [set(terms) for terms in out.terms] == [{"qk", "pair", "gate"}] * 2 + [{"qk", "geometry", "pair", "gate"}]
    for terms, attention in zip(out.terms, out.attention, strict=True):
        assert torch.allclose(sum(terms.values()).softmax(-1), attention, atol=1e-10)


def test_a_schedule_says_where_geometry_counts():
    config = V1(geometry="clamped", geometry_recycles=(1, -1), **SMALL)
    assert [config.has_geometry(r) for r in range(5)] == [False, True, False, False, True]
    net, _ = made(config)
    h = torch.randn(1, 20, 8, dtype=torch.float64)
    terms = net(h, graph_of(cosine_candidates(h, 6)), return_terms=True).terms
    assert ["geometry" in t for t in terms] == [False, True, False, False, True]


def test_clamped_geometry_by_hand_and_monotone_without_its_clamp():
    monotone = V1(geometry="monotone", **SMALL)
    h = torch.randn(1, 20, 8, dtype=torch.float64)
    found = []
    for config in (V1(geometry="clamped", **SMALL), monotone):
        net, _ = made(config)
        with torch.no_grad():
            net.blocks[0].geometry.gamma.fill_(4.0)
        out = net(h, graph_of(cosine_candidates(h, 19)), return_terms=True)
        x = out.layouts[0, 0].detach().numpy()
        expected = -np.log1p(np.exp(4.0)) * np.square(x[:, None] - x[None]).sum(-1)
        found.append((out.terms[0]["geometry"][0, 0].detach().numpy(), expected))
    np.testing.assert_allclose(found[0][0], np.maximum(found[0][1], -10), atol=1e-10)
    np.testing.assert_allclose(found[1][0], found[1][1], atol=1e-10)
    assert found[1][1].min() < -10


def test_rbf_by_hand():
    config = MEMBERS["rbf"]
    term = RBFTerm(config).double()
    torch.nn.init.normal_(term.weight, std=4.0)
    h, x = torch.randn(1, 12, 8), torch.randn(1, 12, 2, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 5), form="edges")
    found = term(torch.empty(0), x, graph)[0].detach().numpy()
    points, index = x[0].numpy(), graph.index[0].numpy()
    distance = np.linalg.norm(points[:, None] - points[index], axis=-1)
    scaled, centres = distance / np.sort(distance.ravel())[(distance.size - 1) // 2], np.linspace(0, 2, 16)
    basis = np.exp(-((scaled[..., None] - centres) ** 2) / (2 * (2 / 15) ** 2))
    expected = np.clip(np.einsum("ikc,hc->hik", basis, term.weight.detach().numpy()), -5, 5)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # centres are rounded to single precision
    assert np.abs(expected).max() == 5


def test_point_attention_by_hand():
    config = MEMBERS["point"]
    term = PointTerm(config).double()
    for p in term.parameters():
        torch.nn.init.normal_(p, std=0.7)
    s, x = torch.randn(1, 9, 12, dtype=torch.float64), torch.randn(1, 9, 2, dtype=torch.float64)
    found = term(s, x, graph_of(cosine_candidates(s, 8)))[0].detach().numpy()
    sigma, (u, v) = term.log_sigma.exp().detach().numpy(), (o[0].detach().numpy() for o in term.offsets(s))
    points = x[0].numpy()
    for head, i, j in np.ndindex(4, 9, 9):
        gap = (points[i] + u[head, i]) - (points[j] + v[head, j])
        assert found[head, i, j] == pytest.approx(max(-(gap @ gap) / sigma[head] ** 2, -10))


def test_the_schedule_is_clamped_and_starts_where_it_should():
    schedule = RecycleSchedule(IPAR())
    values = [[v.item() for v in schedule(r)] for r in range(3)]
    np.testing.assert_allclose([v[0] for v in values], np.sqrt(32), rtol=1e-6)
    np.testing.assert_allclose([v[1] for v in values], [0.5, 1.5, 2.0])
    np.testing.assert_allclose([v[2] for v in values], 0.2, rtol=1e-6)
    with torch.no_grad():
        schedule.tau.fill_(50.0)
        schedule.beta.fill_(-3.0)
    assert [v.item() for v in schedule(1)][:2] == [10.0, 0.0]


def test_beta_scales_the_gate_of_every_recycle():
    net, gate = made(MEMBERS["ipar2d"])
    h = torch.randn(1, 20, 8, dtype=torch.float64)
    graph = graph_of(cosine_candidates(h, 6))
    scores = dense_gate(gate, h, graph)
    assert torch.equal(net(h, graph, scores, beta=2.0).layouts, net(h, graph, scores).layouts)
    assert torch.allclose(net(h, graph, scores, beta=0.0).layouts, net(h, graph).layouts)
    halves = [t["gate"] for t in net(h, graph, scores, beta=1.0, return_terms=True).terms]
    for half, full in zip(halves, net(h, graph, scores, return_terms=True).terms, strict=True):
        assert torch.allclose(2 * half, full["gate"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"geometry": "spherical"}, "geometry must be one of .*'clamped'.*found 'spherical'"),
        ({"gate_supervision": "T3"}, "gate_supervision must be one of .*'mix'.*found 'T3'"),
        ({"n_recycles": 0}, "n_recycles must be at least 1"),
        ({"gate_heads": 2}, "gate_heads must be 1 or n_heads=4, found 2"),
        ({"geometry": "clamped", "geometry_recycles": (5,)}, r"geometry_recycles must lie in -5 … 4, found \[5\]"),
        ({"per_recycle": True}, "needs one, found qk_norm=None"),
        ({"per_recycle": True, "qk_norm": "scaled", "beta": 0.0}, "needs a positive beta, found 0.0"),
    ],
)
def test_switches_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        V1(**options)


@pytest.mark.parametrize("name", ["v1", "v2", "d7", "ipar2d"])
def test_members_by_name_and_through_json(name):
    config = IPALiteConfig.named(name, d_input=8)
    assert config == getattr(IPALiteConfig, name)(d_input=8)
    assert IPALiteConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="config must be one of .*'d7'.* found 'v9'"):
        IPALiteConfig.named("v9")
