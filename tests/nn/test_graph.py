"""Both forms of the candidate graph at the sizes where the choice between them matters, and graphs that are hardly any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ipar.graph.candidates import cosine_candidates
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of

SMALL = {"d_input": 8, "d_state": 12, "d_head": 6}


def stirred(module):
    """No weight is zero, as after some training."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


def test_single_precision_forms_agree_above_the_size_of_the_switch():
    net, gate = stirred(IPALiteNet(IPALiteConfig.d7(d_input=16, n_recycles=2))), stirred(EdgeGate(16))
    h = torch.randn(1, 520, 16)
    index, target = cosine_candidates(h, 30), torch.randn(1, 520, 2)
    found = []
    for form in ("dense", "edges"):
        graph = graph_of(index, form=form)
        own = h.clone().requires_grad_()
        coords = net.eval()(own, graph, dense_gate(gate, own, graph)).coords
        parameters = [
            own,
            *(p for p in net.parameters() if p.requires_grad),
            *(p for p in gate.parameters() if p.requires_grad),
        ]
        found.append((coords, torch.autograd.grad((coords * target).mean(), parameters)))
    assert (found[0][0] - found[1][0]).abs().max() < 1e-5
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert (a - b).abs().max() < 1e-5


def test_lists_keep_nothing_of_the_size_of_all_pairs():
    n, k = 1500, 4
    net, gate = IPALiteNet(IPALiteConfig.d7(**SMALL)), EdgeGate(8)
    h = torch.randn(1, n, 8)
    sizes = []

    def note(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        graph = graph_of(cosine_candidates(h, k))
        net(h, graph, dense_gate(gate, h, graph)).coords.sum().backward()
    assert graph.index is not None
    assert max(sizes) < n * n / 4  # gate features of all edges are the largest


def test_the_choice_can_be_forced_both_ways():
    few, many = cosine_candidates(torch.randn(1, 30, 4), 6), cosine_candidates(torch.randn(1, 600, 4), 6)
    assert graph_of(few, form="edges").mask.shape == (1, 30, 6)
    assert graph_of(many, form="dense").mask.shape == (1, 600, 600)


def test_more_candidates_than_cells_are_all_other_cells():
    h = torch.randn(2, 7, 8, dtype=torch.float64)
    index = cosine_candidates(h, 50)
    assert index.shape == (2, 7, 6)
    assert torch.equal(index.sort(-1).values, cosine_candidates(h, 6).sort(-1).values)
    expected = ~torch.eye(7, dtype=torch.bool).expand(2, -1, -1)
    assert torch.equal(graph_of(index, form="dense").mask, expected)


@pytest.mark.parametrize("form", ["dense", "edges"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("member", ["v1", "v2", "d7", "ipar2d"])
def test_without_any_candidate_every_cell_stays_where_it_began(member, dtype, form):
    config = IPALiteConfig.named(member, **SMALL)
    net, gate = stirred(IPALiteNet(config)).to(dtype).eval(), EdgeGate(8).to(dtype)
    h = torch.randn(1, 12, 8, dtype=dtype, requires_grad=True)
    graph = graph_of(cosine_candidates(h.detach(), 5), form=form)
    graph = replace(graph, mask=torch.zeros_like(graph.mask))
    layouts = net(h, graph, dense_gate(gate, h, graph)).layouts
    assert torch.allclose(layouts, layouts[:1].expand_as(layouts), atol=1e-5)
    (layouts[-1] * torch.randn_like(layouts[-1])).sum().backward()
    grads = [h.grad, *(p.grad for p in [*net.parameters(), *gate.parameters()] if p.grad is not None)]
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_training_spreads_the_logits_without_qk_norm_alone():
    h = torch.randn(1, 30, 8)
    graph = graph_of(cosine_candidates(h, 29))
    target = torch.randn(1, 30, 2)

    def spread(qk_norm):
        torch.manual_seed(0)
        net = stirred(IPALiteNet(IPALiteConfig.v2(qk_norm=qk_norm, **SMALL)))
        optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
        scale = 0.0
        for _ in range(60):
            optimiser.zero_grad()
            (net(h, graph).coords - target).square().mean().backward()
            optimiser.step()
        with torch.no_grad():
            terms = net.eval()(h, graph, return_terms=True).terms
            if qk_norm:
                scale = max(block.logit_scale.exp().item() for block in net.blocks)
        return max(term["qk"].std().item() for term in terms), scale

    (free, _), (bounded, scale) = spread(qk_norm=None), spread(qk_norm="cosine")
    assert bounded <= scale  # a scale times a cosine, whatever the weights
    assert free > 3 * bounded
    assert np.isfinite(free)
