"""Gauges and alignments against plain formulas in double precision, over scales, precisions and degenerate points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipar.geometry import apply_similarity, gauge_fix, procrustes_transform

quick = settings(max_examples=40, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
USUAL, ANY = st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]), st.sampled_from([1e-300, 1e-30, 1e30, 1e150, 1e300])
DTYPES = st.sampled_from([torch.float32, torch.float64])


def points(seed, n, scale, dtype):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * (rng.normal(size=(n, 2)) + rng.normal(size=2))).to(dtype)


@quick
@given(SEEDS, st.integers(2, 30), USUAL, DTYPES)
def test_gauge_fixed_layouts_are_those_of_the_plain_formula(seed, n, scale, dtype):
    x = points(seed, n, scale, dtype)
    plain = x.double().numpy()
    plain = plain - plain.mean(axis=0)
    plain /= np.sqrt((plain**2).sum(axis=1).mean())
    found = gauge_fix(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), plain, atol=1e-3 if dtype == torch.float32 else 1e-9)


@quick
@given(SEEDS, st.integers(3, 30), USUAL, USUAL, DTYPES)
def test_no_turn_found_by_search_beats_the_alignment(seed, n, of_source, of_target, dtype):
    source, target = points(seed, n, of_source, dtype), points(seed + 1, n, of_target, dtype)
    transform = procrustes_transform(source, target)
    found = (apply_similarity(source, transform) - target).double().square().sum().sqrt() / of_target
    a, b = ((x.double() - x.double().mean(0)).numpy() for x in (source, target))
    best = np.inf
    for angle in np.linspace(0, 2 * np.pi, 721):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for mirror in (1.0, -1.0):
            turned = (a * [mirror, 1.0]) @ turn
            scale = max((turned * b).sum() / (turned**2).sum(), 0.0)
            best = min(best, np.linalg.norm(scale * turned - b) / of_target)
    assert float(found) <= best + 1e-3


@quick
@given(SEEDS, st.integers(1, 6), st.one_of(USUAL, ANY), DTYPES)
def test_whatever_the_scale_results_are_finite(seed, n, scale, dtype):
    x = points(seed, n, scale, dtype)
    if torch.isfinite(x).all():
        assert torch.isfinite(gauge_fix(x)).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at", [0.0, 1e-3, 1e6])
def test_coincident_points_are_at_zero_and_alignments_of_them_finite(n, dtype, at):
    x = torch.full((n, 2), at, dtype=dtype)
    assert (gauge_fix(x) == 0).all()
    for pair in ((x, points(0, n, 1.0, dtype)), (points(0, n, 1.0, dtype), x), (x, x)):
        moved = apply_similarity(pair[0], procrustes_transform(*pair))
        assert torch.isfinite(moved).all()
        assert torch.allclose(moved.mean(0), pair[1].mean(0), rtol=1e-4, atol=1e-4)
