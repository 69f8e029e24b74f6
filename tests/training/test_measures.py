"""Measures of attention against plain loops over cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr

from ipar.training.measures import (
    attention_entropy,
    attention_recall,
    displacement,
    edge_ranks,
    head_diversity,
    logit_std,
    precision_recall,
    recall_chance,
    top_cells,
)

R, H, N, K, TOP = 2, 3, 40, 12, 5


@pytest.fixture
def case():
    """Logits, attention, candidates and true neighbours; one cell without candidates, one with fewer than the top."""
    rng = np.random.default_rng(0)
    candidates = np.zeros((N, N), dtype=bool)
    for i in range(1, N):
        candidates[i, rng.choice(np.delete(np.arange(N), i), 2 if i == 1 else K, replace=False)] = True
    neighbors = rng.random((N, N)) < 0.3
    neighbors |= neighbors.T
    np.fill_diagonal(neighbors, False)
    logits = rng.normal(size=(R, H, N, N))
    weights = np.where(candidates, np.exp(logits), 0.0)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    return logits, weights, candidates, neighbors


def tensors(*arrays):
    return tuple(torch.from_numpy(a) for a in arrays)


def top_set(row, allowed):
    places = np.flatnonzero(allowed)
    return set(places[np.argsort(-row[places])][:TOP])


def test_recall_is_the_share_of_true_neighbours_in_the_top(case):
    _, weights, candidates, neighbors = case
    found = attention_recall(*tensors(weights, candidates, neighbors), TOP)
    for r in range(R):
        for h in range(H):
            tops = [top_set(weights[r, h, i], candidates[i]) for i in range(N)]
            shares = [np.mean([neighbors[i, j] for j in top]) for i, top in enumerate(tops) if top]
            assert found[r, h].item() == pytest.approx(np.mean(shares))


def test_recall_of_the_best_and_of_blind_attention():
    rng = np.random.default_rng(1)
    candidates = torch.from_numpy(~np.eye(N, dtype=bool))
    neighbors = torch.from_numpy(rng.random((N, N)) < 0.4) & candidates
    assert attention_recall(neighbors.double(), candidates, neighbors, TOP).item() == 1.0
    blind = torch.from_numpy(rng.random((400, N, N)))
    chance = recall_chance(candidates, neighbors).item()
    assert attention_recall(blind, candidates, neighbors, TOP).mean().item() == pytest.approx(chance, abs=0.01)


def test_precision_and_recall_of_scores(case):
    logits, _, candidates, neighbors = case
    precision, recall = precision_recall(*tensors(logits[0, 0], candidates, neighbors), TOP)
    tops = [top_set(logits[0, 0, i], candidates[i]) for i in range(N)]
    hits = [sum(neighbors[i, j] for j in top) for i, top in enumerate(tops)]
    assert precision.item() == pytest.approx(np.mean([hits[i] / len(tops[i]) for i in range(1, N)]))
    assert recall.item() == pytest.approx(np.mean([hits[i] / neighbors[i].sum() for i in range(N)]))


def test_top_cells_are_never_others_than_candidates(case):
    _, weights, candidates, _ = case
    top = top_cells(*tensors(weights, candidates), 100)
    assert (top.numpy() == candidates).all()


def test_entropy_and_spread_over_candidates(case):
    logits, weights, candidates, _ = case
    found = attention_entropy(*tensors(weights, candidates))
    expected = [np.mean([entropy(weights[1, h, i][candidates[i]]) for i in range(1, N)]) for h in range(H)]
    np.testing.assert_allclose(found[1], expected)
    np.testing.assert_allclose(logit_std(*tensors(logits, candidates))[0, 2], logits[0, 2][candidates].std())


def test_uniform_attention_has_the_entropy_of_its_candidates():
    candidates = torch.ones(6, 6, dtype=torch.bool).fill_diagonal_(False)
    assert attention_entropy(candidates / 5.0, candidates).item() == pytest.approx(np.log(5))


def test_diversity_of_heads(case):
    _, weights, candidates, _ = case
    found = head_diversity(*tensors(weights, candidates), TOP)
    tops = [[top_set(weights[0, h, i], candidates[i]) for i in range(1, N)] for h in range(H)]

    def apart(a, b):
        return np.mean([1 - len(x & y) / len(x | y) for x, y in zip(a, b, strict=True)])

    for h in range(H):
        others = [apart(tops[h], tops[o]) for o in range(H) if o != h]
        assert found[0, h].item() == pytest.approx(np.mean(others))
    same = torch.from_numpy(weights[:, :1]).expand(-1, H, -1, -1)
    assert head_diversity(same, torch.from_numpy(candidates), TOP).abs().max() == 0


def test_spearman_over_edges(case):
    logits, weights, candidates, _ = case
    attention, term, mask = tensors(weights[0], np.round(logits[0, :1]), candidates)  # rounded: with ties
    found = (edge_ranks(attention, mask) * edge_ranks(term, mask)).sum(-1)
    expected = [spearmanr(weights[0, h][candidates], np.round(logits[0, 0])[candidates]).statistic for h in range(H)]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(edge_ranks(*tensors(np.zeros((1, N, N)), candidates))).all()


def test_displacement_is_the_root_mean_square_step():
    layouts = torch.randn(3, 10, 2, generator=torch.Generator().manual_seed(0))
    expected = [torch.linalg.norm(layouts[r + 1] - layouts[r]).item() / 10**0.5 for r in range(2)]
    np.testing.assert_allclose(displacement(layouts), expected, rtol=1e-6)
    assert displacement(layouts[:1].expand(3, -1, -1)).max() == 0
