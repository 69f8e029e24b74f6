from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf

from ipar.nn import EdgeGate
from ipar.nn.gate import dense_gate

D, N, M = 10, 30, 200


def numpy_mlp(gate, features):
    """The MLP on explicit features, in float64."""
    state = {name: value.double().numpy() for name, value in gate.state_dict().items()}
    layers = [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in ("first", "rest.1", "rest.3")]
    for index, (weight, bias) in enumerate(layers):
        features = features @ weight.T + bias
        if index < 2:
            features = 0.5 * features * (1 + erf(features / np.sqrt(2)))
    return features


def explicit(gate, h, source, target):
    h_i, h_j = h.double().numpy()[source], h.double().numpy()[target]
    return numpy_mlp(gate, np.concatenate([h_i, h_j, np.abs(h_i - h_j), h_i * h_j], axis=1))


@pytest.fixture
def edges():
    return torch.randint(N, (2, M))


@pytest.mark.parametrize(("shape", "count"), [((128,), 37_057), ((128, 4), 37_252), ((64,), 64 * 256 + 64 + 4160 + 65)])
def test_parameters(shape, count):
    assert sum(p.numel() for p in EdgeGate(*shape).parameters()) == count


@pytest.mark.parametrize("n_heads", [1, 4])
def test_factorised_layer_equals_the_mlp_on_concatenated_features(edges, n_heads):
    gate, h = EdgeGate(D, n_heads), 3 * torch.randn(N, D)
    expected = explicit(gate, h, *edges)
    assert np.allclose(gate.double()(h.double(), *edges).detach(), expected, atol=1e-12)
    assert gate(h.double(), *edges).shape == (M, n_heads)
    assert np.allclose(gate.float()(h, *edges).detach(), expected, atol=1e-4)


def test_gradient_is_that_of_the_explicit_mlp(edges):
    gate, h = EdgeGate(D).double(), torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    h_i, h_j = h[edges[0]], h[edges[1]]
    features = torch.cat([h_i, h_j, (h_i - h_j).abs(), h_i * h_j], dim=1)
    weight = torch.randn(M, 1, dtype=torch.float64)
    inputs = [h, *(p for p in gate.parameters() if p.requires_grad)]
    expected = torch.autograd.grad((gate.rest(gate.first(features)) * weight).sum(), inputs)
    found = torch.autograd.grad((gate(h, *edges) * weight).sum(), inputs)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(found, expected, strict=True))


def test_score_is_of_the_ordered_pair_alone(edges):
    gate, h = EdgeGate(D).double(), torch.randn(N, D, dtype=torch.float64)
    scores = gate(h, *edges)
    order = torch.randperm(M)
    assert torch.allclose(gate(h, *edges[:, order]), scores[order])
    assert torch.allclose(gate(h, *edges[:, :1]), scores[:1])
    assert not torch.allclose(gate(h, *edges.flip(0)), scores, atol=1e-3)
    other = h.clone()
    other[edges.flatten().bincount(minlength=N).argmin()] += 5  # no edge but its own may notice
    touched = (other[edges[0]] != h[edges[0]]).any(1) | (other[edges[1]] != h[edges[1]]).any(1)
    assert torch.allclose(gate(other, *edges)[~touched], scores[~touched])


def test_no_edges():
    nothing = torch.empty(0, dtype=torch.long)
    assert EdgeGate(D)(torch.randn(N, D), nothing, nothing).shape == (0, 1)


def test_bfloat16_is_close_and_comes_back_in_the_precision_of_h(edges):
    gate, h = EdgeGate(D), 3 * torch.randn(N, D)
    h.requires_grad_()
    exact, rounded = gate(h, *edges), gate(h, *edges, dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.std()
    gradients = [
        torch.autograd.grad(s.square().sum(), [h, *(p for p in gate.parameters() if p.requires_grad)])
        for s in (exact, rounded)
    ]
    for full, low in zip(*gradients, strict=True):
        assert low.dtype == full.dtype
        assert (full - low).norm() < 0.05 * full.norm()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_dense_scores_lie_on_candidates_and_are_zero_elsewhere(dtype):
    gate, h = EdgeGate(D), torch.randn(3, N, D)
    candidates = torch.rand(3, N, N) < 0.3
    candidates[1] = False
    dense = dense_gate(gate, h, candidates, dtype)
    assert dense.dtype == torch.float32
    assert (dense[~candidates] == 0).all()
    for b in range(3):
        source, target = candidates[b].nonzero(as_tuple=True)
        expected = explicit(gate, h[b], source, target)[:, 0]
        atol = 1e-5 if dtype is None else 0.02
        assert np.allclose(dense[b][candidates[b]].detach(), expected, atol=atol)


def test_edges_read_in_pieces_have_the_scores_and_gradients_of_all_at_once(monkeypatch):
    gate, h = EdgeGate(D).double(), torch.randn(2, N, D, dtype=torch.float64, requires_grad=True)
    candidates = torch.rand(2, N, N) < 0.3
    weight = torch.randn(2, N, N, dtype=torch.float64)
    source, target = torch.block_diag(*candidates).nonzero(as_tuple=True)
    whole = gate(h.flatten(0, 1), source, target)[:, 0]
    inputs = [h, *(p for p in gate.parameters() if p.requires_grad)]
    expected = torch.autograd.grad((whole * weight[candidates]).sum(), inputs)
    monkeypatch.setattr(EdgeGate, "PIECE", (17, 17))  # the last is shorter
    dense = dense_gate(gate, h, candidates)
    assert torch.allclose(dense[candidates], whole, atol=1e-12)
    found = torch.autograd.grad((dense * weight).sum(), inputs)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(found, expected, strict=True))


def test_dense_gradient_reaches_embedding_and_weights():
    gate, h = EdgeGate(D), torch.randn(2, N, D, requires_grad=True)
    candidates = torch.rand(2, N, N) < 0.3
    candidates[0, 4], candidates[0, :, 4] = False, False
    dense_gate(gate, h, candidates).square().sum().backward()
    assert (h.grad[0, 4] == 0).all()
    assert (h.grad[1].abs().sum(1) > 0).all()
    assert all(p.grad.abs().sum() > 0 for p in gate.parameters() if p.requires_grad)
