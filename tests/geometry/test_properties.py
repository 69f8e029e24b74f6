"""What must hold of every layout, on layouts that hypothesis draws."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ipar.geometry import apply_similarity, gauge_fix, procrustes_transform
from ipar.geometry.rotation import rotation_exp, rotation_log

quick = settings(max_examples=25, deadline=None, derandomize=True)
scales = st.floats(1e-3, 1e3)
shifts = st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)).map(lambda s: torch.tensor(s, dtype=torch.float64))
angles = st.floats(-np.pi, np.pi)


@st.composite
def layouts(draw, smallest=4, largest=60):
    """Cells spread unevenly over a plane, float64."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(smallest, largest))
    return torch.from_numpy(rng.normal(size=(n, 2)) * [draw(st.floats(0.1, 10)), 1.0])


def orthogonal(angle, *, mirror):
    turn = rotation_exp(torch.tensor([angle], dtype=torch.float64))
    return turn * torch.tensor([-1.0 if mirror else 1.0, 1.0], dtype=torch.float64)


@quick
@given(layouts())
def test_a_gauge_fixed_layout_stays_as_it_is(x):
    once = gauge_fix(x)
    assert torch.allclose(gauge_fix(once), once, atol=1e-12)


@quick
@given(layouts(), scales, shifts)
def test_the_gauge_forgets_shift_and_scale(x, scale, shift):
    assert torch.allclose(gauge_fix(scale * x + shift), gauge_fix(x), atol=1e-6)


@quick
@given(layouts(), angles, st.booleans())
def test_the_gauge_keeps_turns_and_reflections(x, angle, mirror):
    turn = orthogonal(angle, mirror=mirror)
    assert torch.allclose(gauge_fix(x @ turn), gauge_fix(x) @ turn, atol=1e-9)


@quick
@given(layouts(), scales, shifts, angles, st.booleans())
def test_procrustes_recovers_a_planted_similarity(x, scale, shift, angle, mirror):
    turn = orthogonal(angle, mirror=mirror)
    target = scale * x @ turn + shift
    transform = procrustes_transform(x, target)
    assert torch.allclose(transform[1], turn, atol=1e-6)
    assert torch.allclose(transform[2].squeeze(), torch.tensor(scale, dtype=torch.float64), rtol=1e-6)
    assert torch.allclose(apply_similarity(x, transform), target, atol=1e-6, rtol=1e-6)


@quick
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 3.1))
def test_log_undoes_exp_and_exp_is_that_of_scipy(axis, angle):
    vector = torch.tensor(axis, dtype=torch.float64)
    vector = angle * vector / vector.norm().clamp_min(1e-3)
    rotation = rotation_exp(vector)
    assert torch.allclose(rotation_log(rotation), vector, atol=1e-8)
    np.testing.assert_allclose(rotation.numpy(), Rotation.from_rotvec(vector.numpy()).as_matrix(), atol=1e-9)
