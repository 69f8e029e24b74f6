from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ipar.nn.block import attention_bias, masked_attention
from ipar.nn.graph import CandidateGraph

B, H, N, D = 2, 3, 11, 4


@pytest.fixture
def parts():
    query, key = torch.randn(2, B, H, N, D, dtype=torch.float64) * 2
    candidates = torch.rand(B, N, N) < 0.4
    candidates[:, 3] = False
    candidates[:, 5] = torch.arange(N) == 2
    return query, key, candidates, torch.randn(B, N, N, dtype=torch.float64)


def attend(query, key, candidates, gate=None, beta=2.0):
    return masked_attention(query, key, attention_bias(candidates, gate, beta, query.dtype), CandidateGraph(candidates))


def by_loops(query, key, candidates, gate, beta):
    weights = np.zeros((B, H, N, N))
    for b, h, i in np.ndindex(B, H, N):
        allowed = np.flatnonzero(candidates[b, i])
        if len(allowed):
            logits = [query[b, h, i] @ key[b, h, j] + beta * gate[b, i, j] for j in allowed]
            weights[b, h, i, allowed] = softmax(logits)
    return weights


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
def test_weights_against_loops(parts, beta):
    expected = by_loops(*(part.numpy() for part in parts), beta)
    assert np.allclose(attend(*parts, beta).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_sum_to_one_over_candidates_alone(parts, dtype):
    query, key, candidates, gate = parts
    weights = attend(query.to(dtype), key.to(dtype), candidates, gate.to(dtype))
    masked = ~candidates[:, None].expand_as(weights)
    assert (weights[masked] == 0).all()
    total = weights.float().sum(-1)
    has = candidates.any(-1)[:, None].expand_as(total)
    assert torch.allclose(total[has], torch.ones(int(has.sum())), atol=2e-2 if dtype == torch.bfloat16 else 1e-6)
    assert (total[~has] == 0).all()
    assert (weights[:, :, 5, 2] == 1).all()  # an only candidate takes it all


def test_no_gate_is_a_gate_of_zeros_and_beta_zero(parts):
    query, key, candidates, gate = parts
    without = attend(query, key, candidates)
    assert torch.equal(attend(query, key, candidates, torch.zeros_like(gate)), without)
    assert torch.equal(attend(query, key, candidates, gate, beta=0.0), without)
    assert not torch.allclose(attend(query, key, candidates, gate), without, atol=0.01)


def test_gate_counts_only_relative_to_its_row_and_only_on_candidates(parts):
    query, key, candidates, gate = parts
    weights = attend(query, key, candidates, gate)
    assert torch.allclose(attend(query, key, candidates, gate + torch.randn(B, N, 1)), weights)
    spoilt = gate.masked_fill(~candidates, 1e6)
    assert torch.equal(attend(query, key, candidates, spoilt), weights)
    assert torch.equal(attend(query, key, candidates, gate.masked_fill(~candidates, float("nan"))), weights)


def test_keys_that_nobody_may_attend_to_change_nothing(parts):
    query, key, candidates, gate = parts
    candidates[:, :, 7] = False
    weights = attend(query, key, candidates, gate)
    key = key.clone()
    key[:, :, 7] = 1e3
    assert torch.equal(attend(query, key, candidates, gate), weights)


def test_extreme_logits_and_empty_rows_keep_gradients_finite(parts):
    query, key, candidates, gate = (part.float() if part.is_floating_point() else part for part in parts)
    candidates[1] = False
    query, gate = (300 * query).requires_grad_(), (1e4 * gate).requires_grad_()
    weights = attend(query, key, candidates, gate)
    (weights * torch.randn_like(weights)).sum().backward()
    assert torch.isfinite(weights).all()
    assert (weights[1] == 0).all()
    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(gate.grad).all()
    assert (gate.grad[~candidates] == 0).all()


def test_bfloat16_is_close(parts):
    query, key, candidates, gate = parts
    exact = attend(query, key, candidates, gate)
    rounded = attend(query.bfloat16(), key.bfloat16(), candidates, gate.bfloat16()).double()
    assert (exact - rounded).abs().mean() < 5e-3
