"""Attention in one pass: the numbers of the loops and of PyTorch, and where it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from ipar._run import Run
from ipar.model.flow import Flow
from ipar.nn import EdgeGate, IGAConfig, IGANet, IPALiteConfig, IPALiteNet, attention_loops, block, kernels
from ipar.nn.block import attend, attention_bias
from ipar.nn.gate import dense_gate
from ipar.nn.graph import CandidateGraph
from ipar.nn.pose_flow import noise_poses

SMALL = {"d_input": 8, "d_state": 12, "d_head": 6}


def problem(batch=2, heads=3, n=40, k=7, d=5, e=4, *, gates=1, share=0.7, scale=1.0, seed=0):
    """Query, key, bias, graph and values; some cells have no candidates."""
    generator = torch.Generator().manual_seed(seed)
    query, key = scale * torch.randn(2, batch, heads, n, d, generator=generator)
    index = torch.rand(batch, n, n, generator=generator).argsort(-1)[..., :k]
    mask = torch.rand(batch, n, k, generator=generator) < share
    mask[:, :: max(n // 4, 1)] = False
    gate = torch.randn(batch, gates, n, k, generator=generator)
    bias = attention_bias(mask, gate, 2.0, torch.float32)
    return query, key, bias, CandidateGraph(mask, index), torch.randn(batch, heads, n, e, generator=generator)


def by_loops(query, key, bias, graph, values):
    """Sums and largest weights in double precision, one cell and head at a time."""
    query, key, bias, values = (part.double().numpy() for part in (query, key, bias, values))
    sums, largest = np.zeros((*query.shape[:3], values.shape[-1])), np.zeros(query.shape[:3])
    for b, h, i in np.ndindex(query.shape[:3]):
        slots = graph.mask[b, i].nonzero()[:, 0].numpy()
        if len(slots):
            cells = graph.index[b, i].numpy()[slots]
            weights = softmax(key[b, h, cells] @ query[b, h, i] + bias[b, h % bias.shape[1], i, slots])
            sums[b, h, i], largest[b, h, i] = weights @ values[b, h, cells], weights.max()
    return sums, largest


def agree(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.allclose(np.asarray(a), np.asarray(b), atol=tolerance)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    n=st.integers(1, 30),
    k=st.integers(0, 9),
    d=st.integers(0, 33),
    e=st.integers(1, 34),
    shared=st.booleans(),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    seed=st.integers(0, 99),
)
def test_the_kernel_against_loops(batch, heads, n, k, d, e, shared, share, scale, seed):
    gates = 1 if shared else heads
    parts = problem(batch, heads, n, min(k, n), d, e, gates=gates, share=share, scale=scale, seed=seed)
    found = kernels.fused_attention(*parts)
    agree(found, by_loops(*parts), 2e-5 * max(1.0, scale**2))
    empty = ~parts[3].filled[:, None].expand(found[1].shape)
    assert (found[1][empty] == 0).all()
    assert (found[0][empty] == 0).all()


@pytest.mark.parametrize("gates", [1, 3])
def test_the_loops_mean_the_same_uncompiled(gates, monkeypatch):
    monkeypatch.setattr(attention_loops, "prefetch", lambda *_: None)
    query, key, bias, graph, values = problem(1, gates=gates)
    by_cell = [part[0].transpose(0, 1).numpy() for part in (query, key, values)]
    sums, largest = np.empty((40, 3, 4), np.float32), np.empty((40, 3), np.float32)
    rest = [bias[0].numpy(), graph.mask[0].numpy(), graph.index[0].numpy(), sums, largest]
    attention_loops.loops(*by_cell, *rest, 0, 40)
    agree(kernels.fused_attention(query, key, bias, graph, values), (sums.swapaxes(0, 1)[None], largest.T[None]))


@pytest.mark.parametrize("gates", [1, 3])
def test_the_kernel_against_pytorch_where_it_decides(gates):
    parts = problem(gates=gates)
    with torch.no_grad():
        sums, largest = attend(*parts)
        expected, weights = attend(*parts, need_weights=True)
    assert largest.shape[-1] == 1
    assert weights.shape[-1] == 7
    agree((sums, largest), (expected, weights.amax(-1, keepdim=True)))


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e30])
def test_what_no_cell_may_attend_to_is_not_read(wild):
    query, key, bias, graph, values = problem()
    graph = replace(graph, mask=graph.mask & (graph.index != 5))
    expected = kernels.fused_attention(query, key, bias, graph, values)
    key, values = key.clone(), values.clone()
    key[:, :, 5], values[:, :, 5] = wild, wild
    bias = torch.where(graph.mask[:, None], bias, wild)
    for a, b in zip(kernels.fused_attention(query, key, bias, graph, values), expected, strict=True):
        assert torch.equal(a, b)


def test_large_logits_overflow_nowhere_and_nan_stays_nan():
    query, key, bias, graph, values = problem()
    bias = bias + 1e4 * torch.randn(bias.shape)
    sums, largest = kernels.fused_attention(query, key, bias, graph, values)
    agree((sums, largest), by_loops(query, key, bias, graph, values), 1e-3)
    query[0, 1, 1] = float("nan")
    sums, _ = kernels.fused_attention(query, key, bias, graph, values)
    assert graph.filled[0, 1]
    assert sums[0, 1, 1].isnan().all()
    assert sums[0, 1, 2:].isfinite().all()


@pytest.mark.parametrize("wrong", [-1, 40])
def test_a_neighbour_that_is_no_cell(wrong):
    query, key, bias, graph, values = problem()
    graph.index[1, 7, :] = wrong
    graph.mask[1, 7, :] = True
    with pytest.raises(IndexError, match="not among the cells"):
        kernels.fused_attention(query, key, bias, graph, values)


def test_views_and_threads_change_nothing(monkeypatch):
    query, key, bias, graph, values = problem(n=600)
    expected = kernels.fused_attention(query, key, bias, graph, values)
    views = [part.mT.contiguous().mT for part in (query, key, bias, values)]
    once = CandidateGraph(graph.mask[:1].expand(2, -1, -1), graph.index[:1].expand(2, -1, -1))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    agree(kernels.fused_attention(*views[:3], graph, views[3]), expected, 0)
    repeated = kernels.fused_attention(query, key, bias, once, values)
    agree([part[:1] for part in repeated], [part[:1] for part in expected], 0)
    graph.index[1, 590] = 600
    graph.mask[1, 590] = True
    with pytest.raises(IndexError):  # from a thread
        kernels.fused_attention(query, key, bias, graph, values)


def test_calls_from_many_threads_at_once():
    parts = problem(n=500)
    expected = kernels.fused_attention(*parts)
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(kernels.fused_attention, *parts) for _ in range(12)]:
            agree(found.result(), expected, 0)


def test_where_the_kernel_is_used():
    query, key, bias, graph, values = problem()
    tensors = query, key, bias, values
    assert not kernels.has_kernel(graph, *tensors)  # gradients
    with torch.inference_mode():
        assert kernels.has_kernel(graph, *tensors)
    with torch.no_grad():
        assert kernels.has_kernel(graph, *tensors)
        assert not kernels.has_kernel(graph.dense(), *tensors)
        assert not kernels.has_kernel(graph, *(part.double() for part in tensors))
        assert not kernels.has_kernel(graph, query.bfloat16(), *tensors[1:])
        assert not kernels.has_kernel(graph, *(part.to("meta") for part in tensors))


def test_gradients_flow_through_pytorch(monkeypatch):
    monkeypatch.setattr(block, "fused_attention", None)
    parts = problem()
    tensors = [part.requires_grad_() for part in (*parts[:3], parts[4])]
    sums, weights = attend(*parts)
    assert weights.shape[-1] == 7
    sums.square().sum().backward()
    assert all(part.grad.isfinite().all() and part.grad.abs().max() > 0 for part in tensors)


def stirred(module):
    """No weight is zero, as after some training."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module.eval()


def with_and_without(monkeypatch, predict):
    """What is predicted with the kernel and without, each from the same random state."""
    calls = []
    monkeypatch.setattr(block, "fused_attention", lambda *parts: calls.append(1) or kernels.fused_attention(*parts))
    one = predict()
    assert calls
    monkeypatch.setattr(block, "has_kernel", lambda *_: False)
    return one, predict()


@pytest.mark.parametrize("member", ["v1", "v2", "d7", "ipar2d"])
def test_ipalite_with_and_without_the_kernel(member, monkeypatch):
    config = IPALiteConfig.named(member, **SMALL)
    net, gate, h = stirred(IPALiteNet(config)), stirred(EdgeGate(8)), torch.randn(2, 60, 8)
    graph = problem(n=60, k=9)[3]

    @torch.no_grad()
    def predict():
        return net(h, graph, dense_gate(gate, h, graph)).layouts

    agree(*[[part] for part in with_and_without(monkeypatch, predict)], tolerance=2e-5)
    with torch.no_grad():
        asked = net(h, graph, dense_gate(gate, h, graph), return_attention=True)
    assert asked.attention.shape == (config.n_recycles, 2, config.n_heads, 60, 9)


@pytest.mark.parametrize("d", [2, 3])
def test_the_flow_with_and_without_the_kernel(d, monkeypatch):
    flow = Flow(stirred(IGANet(IGAConfig(n_dims=d, **SMALL))), stirred(EdgeGate(8)), 12, (32, 64))
    h = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)  # above the switch from a matrix to lists
    one, other = with_and_without(monkeypatch, lambda: flow.expected_layout(h, Run(0, progress=False), 2))
    agree([one], [other], 1e-4)


@pytest.mark.parametrize("d", [2, 3])
def test_signals_with_and_without_the_kernel(d, monkeypatch):
    net, h = stirred(IGANet(IGAConfig(n_dims=d, **SMALL))), torch.randn(1, 60, 8)
    graph, gate = problem(1, n=60, k=3)[3], 4 * torch.randn(1, 60, 3)
    rigid = noise_poses((1, 60), net.config, torch.Generator().manual_seed(0))

    @torch.no_grad()
    def predict():
        return net(h, graph, rigid, torch.tensor([0.3]), gate).signals

    one, other = with_and_without(monkeypatch, predict)
    assert 0 < one.wmax_sat_frac < 1
    for name in ("geo_scaled_absmax", "wmax_sat_frac", "log_det_min"):
        assert torch.allclose(getattr(one, name), getattr(other, name), rtol=1e-4)


def test_without_a_folder_to_keep_compiled_code():
    code = """
import numba, torch
njit, asked = numba.njit, []
def unwritable(*args, cache=False, **options):
    if cache:
        asked.append(args[0])
        raise RuntimeError("cannot cache function: no locator available")
    return njit(*args, **options)
numba.njit = unwritable
from ipar.nn import kernels
from ipar.nn.graph import graph_of
graph = graph_of(torch.tensor([[[1], [0]]]), form="edges")
values = torch.tensor([2.0, 3.0]).view(1, 1, 2, 1)
print(*kernels.fused_attention(values, values, torch.zeros(1, 1, 2, 1), graph, values)[0].flatten().tolist(), len(asked))
"""
    assert fresh(code) == ["3.0", "2.0", "1"]


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_numba_is_imported_by_the_first_use_alone():
    assert fresh("import ipar, ipar.nn, ipar.nn.kernels, sys; print('numba' in sys.modules)") == ["False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_use_what_its_parent_used():
    code = """
import os, torch
from ipar.nn import kernels
from ipar.nn.graph import graph_of
torch.manual_seed(0)
torch.set_num_threads(2)
n, k = 1000, 5
query, key, values = torch.randn(3, 1, 2, n, 4)
graph = graph_of(torch.randint(n, (1, n, k)), form="edges")
parts = query, key, torch.zeros(1, 1, n, k), graph, values
sums = kernels.fused_attention(*parts)[0]
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(kernels.fused_attention(*parts)[0], sums) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert fresh(code) == ["0"]
