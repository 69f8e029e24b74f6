"""Gap and shuffle controls against energies computed graph by graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ipar import metrics
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.training.experiments import CONTROLS, GAP, _random_graph, _rows, _spoilt, decompose_gap, shuffle_controls
from ipar.training.losses import e_geo
from ipar.training.minisets import collate, sample_minisets
from ipar.training.validation import validate

NET = IPALiteConfig(d_input=12, d_state=24, n_heads=2, d_head=8, n_recycles=2)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    net, gate = IPALiteNet(NET), EdgeGate(12)
    with torch.no_grad():
        net.blocks[0].step.add_(0.4 * torch.randn_like(net.blocks[0].step))
    return net, gate


@pytest.fixture
def sets():
    rng = np.random.default_rng(4)
    coords = torch.from_numpy(rng.random((300, 2))).float()
    h = 2 * torch.sin(coords @ torch.from_numpy(6 * rng.normal(size=(2, 12))).float())
    return sample_minisets([h], [coords], 3, size=(50, 80), n_neighbors=25)


def test_gap_is_the_energy_on_each_graph(networks, sets):
    net, gate = networks
    table = decompose_gap(net, gate, sets, beta=1.5)
    assert table["condition"].tolist() == list(GAP) * 3
    wide = table.pivot(index="miniset", columns="condition", values="e_geo")
    for number, one in enumerate(sets):
        batch = collate([one])
        pointed = torch.zeros(len(one), len(one), dtype=torch.bool)
        for i, row in enumerate(one.candidates.tolist()):
            pointed[i, row] = True
        guess = e_geo(net(batch.h, pointed[None]).layouts[0], batch).item()
        assert wide.loc[number, "first guess"] == pytest.approx(guess, rel=1e-4)
        graphs = {
            "target edges": one.walk.adjacency,
            "true candidates": pointed & one.walk.adjacency,
            "wrong candidates": pointed & ~one.walk.adjacency,
            "all candidates": pointed,
        }
        for name, graph in graphs.items():
            expected = e_geo(net(batch.h, graph[None]).coords, batch).item()
            assert wide.loc[number, name] == pytest.approx(expected, rel=1e-4)
        gated = net(batch.h, pointed[None], dense_gate(gate, batch.h, pointed[None]), beta=1.5).coords
        assert wide.loc[number, "gated candidates"] == pytest.approx(e_geo(gated, batch).item(), rel=1e-4)
        # the energy is the one that is reported, whose ring edges and landmarks are others
        assert metrics.e_geo(one.coords.numpy(), gated[0].detach().numpy()).total == pytest.approx(
            wide.loc[number, "gated candidates"], rel=0.15
        )
    assert validate(net, gate, sets, beta=1.5) == pytest.approx(
        tuple(wide[["target edges", "gated candidates"]].mean()), rel=1e-4
    )


def test_controls_spoil_what_they_say_and_nothing_else(sets):
    batch = collate([sets[0]])
    n = len(sets[0])
    made = dict(_spoilt(batch, sets[1].h, 25, torch.Generator().manual_seed(0)))
    assert tuple(made) == CONTROLS
    assert made["intact"] is batch
    assert sorted(map(tuple, made["shuffled"].h[0].tolist())) == sorted(map(tuple, batch.h[0].tolist()))
    assert not torch.equal(made["shuffled"].h, batch.h)
    assert {tuple(row) for row in made["other miniset"].h[0].tolist()} <= {tuple(row) for row in sets[1].h.tolist()}
    noise = made["gaussian"].h[0]
    np.testing.assert_allclose(noise.mean(0), batch.h[0].mean(0), atol=4 * 2 / n**0.5)
    assert torch.equal(made["random graph"].h, batch.h)
    for name, one in made.items():
        assert torch.equal(one.candidates.sum(-1), batch.candidates.sum(-1)), name  # of equal degree
        assert not one.candidates[0].diagonal().any(), name
        same = replace(one, h=batch.h, candidates=batch.candidates)
        assert all(getattr(same, field) is getattr(batch, field) for field in batch.__dataclass_fields__), name
    # candidates follow from what is given: those of the permuted embedding, permuted alike
    order = [batch.h[0].tolist().index(row) for row in made["shuffled"].h[0].tolist()]
    assert torch.equal(made["shuffled"].candidates[0], batch.candidates[0][order][:, order])


def test_random_graph_has_the_degrees_and_no_preference():
    candidates = torch.rand(30, 30, generator=torch.Generator().manual_seed(1)) < 0.4
    candidates.fill_diagonal_(False)
    candidates[3] = False
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([_random_graph(candidates, generator) for _ in range(400)])
    assert (drawn.sum(-1) == candidates.sum(-1)).all()
    assert not drawn.diagonal(dim1=1, dim2=2).any()
    share = drawn[:, 0].double().mean(0)[1:]
    np.testing.assert_allclose(share, candidates[0].sum() / 29, atol=0.11)


def test_rows_are_taken_once_where_there_are_enough():
    h = torch.arange(10.0)[:, None]
    generator = torch.Generator().manual_seed(0)
    assert len(set(_rows(h, 10, generator)[:, 0].tolist())) == 10
    assert sorted(_rows(h, 20, generator)[:, 0].tolist()) == sorted([*range(10), *range(10)])


def test_controls_repeat_and_leave_the_global_state(networks, sets):
    state = torch.get_rng_state()
    first, again, other = (shuffle_controls(*networks, sets, n_neighbors=25, random_state=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.equals(again)
    assert not first.equals(other)
    intact = first[first["condition"] == "intact"]["e_geo"].mean()
    assert intact == pytest.approx(validate(*networks, sets)[1], rel=1e-4)
    with pytest.raises(ValueError, match="n_minisets must be at least 2"):
        shuffle_controls(*networks, sets[:1], n_neighbors=25)
