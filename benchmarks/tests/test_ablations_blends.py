from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes

import ipar
from benchmarks.ablations import blends
from benchmarks.ablations.fits import Placed, blended, read
from ipar.model import Sharpening


def turned(layout, angle, scale=1.0):
    c, s = np.cos(angle), np.sin(angle)
    return (scale * layout @ np.array([[c, -s], [-s, -c]])).astype(np.float32)  # mirrored too


@pytest.fixture
def ready(fitted, monkeypatch):
    """Every fit of an ablation is the small one."""
    monkeypatch.setattr(blends, "fit_model", lambda *_, **__: fitted.model)
    return fitted


def test_the_mean_of_two_layouts_knows_no_frame():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(50, 2)).astype(np.float32) for _ in range(2))
    mean = blended(first, second, 0.3)
    np.testing.assert_allclose(blended(first, turned(second, 1.2, 4.0), 0.3), mean, atol=1e-5)
    # an independent formulation: both at unit norm, the second turned onto the first
    a, b, _ = procrustes(first, second)
    b = b / np.linalg.norm(b)
    assert procrustes(0.7 * a + 0.3 * b, mean)[2] == pytest.approx(0, abs=1e-6)


def test_a_placed_query_is_finished_as_the_model_does(fitted):
    query = fitted.slides.query.copy()
    placed = Placed.by(fitted.model, read(fitted.slides)[1], 0)
    ipar.tl.predict_coords(query, fitted.model, random_state=0, progress=False)
    np.testing.assert_allclose(placed.default(), query.obsm["X_ipar"], atol=1e-5)
    ipar.tl.predict_coords(query, fitted.model, random_state=0, sharpen=False, progress=False)
    np.testing.assert_allclose(placed.finished(fitted.model.blend), query.obsm["X_ipar"], atol=1e-5)
    assert not np.allclose(placed.finished(fitted.model.blend, Sharpening()), query.obsm["X_ipar"], atol=1e-2)


@pytest.mark.parametrize(
    ("group", "make"),
    [("steps", blends.layouts_by_steps), ("flow", blends.layouts_by_flow), ("shares", blends.layouts_by_shares)],
)
def test_layouts_have_the_names_of_the_records(ready, names_of, group, make):
    found = dict(make(ready.slides, 0))
    assert list(found) == names_of(group)
    assert all(x.shape == ready.slides.truth.shape and np.isfinite(x).all() for x in found.values())
    assert len({x.tobytes() for x in found.values()}) >= len(found) - 1  # the fit may have chosen what is tried
