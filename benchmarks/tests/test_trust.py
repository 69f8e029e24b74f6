"""What is done to queries, and the page."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from benchmarks import trust


def record(model, kind, query, distance, **changes):
    given = {"threshold": 3.0, "expected": 0.5, "error": 0.6, "slope": 1.0, "spearman": 0.4}
    return {"model": model, "kind": kind, "query": query, "distance": distance} | given | changes


@pytest.fixture
def records():
    return [
        record("ob, brain", "real", "MOB4", 0.5),
        record("ob, brain", "foreign", "Hippo5", 4.0),
        record("ob, brain", "foreign", "Hippo6", 2.0),
        record("ob, brain", "thinned", "thinned to 4", 5.0, expected=0.9),
        record("ob, brain", "thinned", "thinned to 22", 3.5, expected=0.8),
        record("ob, brain", "thinned", "thinned to 108", 1.0, expected=0.7),
        record("ob, brain", "spoilt", "noise", 0.1),
        record("brain2", "real", "Hippo3", 3.2),
    ]


def test_the_page_counts_what_was_caught_and_false_alarms(records, tmp_path):
    text = trust.page(records, tmp_path)
    assert "| ob, brain | 3.0 | 0.5 | 2.0 | 1.00 | 1 of 2 |" in text
    assert "False alarms: 1 of 2 real queries." in text
    assert "foreign against real: 0.750." in text  # 3 of 4 pairs in order
    assert "| thinned to 4 | 1 of 1 | 0.90 | 0.60 | 1 |" in text
    assert text.index("| noise") < text.index("| thinned to 4 ") < text.index("| thinned to 108 ")
    assert "mean over 1 models: -1.00" in text


def test_spoilt_slides_keep_their_places_and_lose_what_they_should():
    rng = np.random.default_rng(0)
    state = rng.random((300, 1)) < 0.5
    counts = rng.poisson(np.where(state, 40.0, 10.0) * np.ones((1, 30)))
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    slide = ad.AnnData(sparse.csr_matrix(x, dtype=np.float32), obsm={"spatial": rng.random((300, 2))})
    found = dict(trust.spoilt(slide))
    assert {"thinned to 4", "noise", "genes renamed"} <= set(found)
    for one in found.values():
        assert one.shape == slide.shape
        assert np.array_equal(one.obsm["spatial"], slide.obsm["spatial"])
    detected = {name: float((one.X > 0).mean()) for name, one in found.items()}
    assert detected["thinned to 4"] < detected["thinned to 22"] < 1
    np.testing.assert_allclose(
        np.sort(found["genes renamed"].X.toarray(), axis=1), np.sort(slide.X.toarray(), axis=1), rtol=1e-6
    )


def test_the_slope_of_what_is_right_is_one():
    expected = np.linspace(0.2, 0.9, 50)
    assert trust._slope(expected, expected + 0.1) == pytest.approx(1)
    assert np.isnan(trust._slope(np.full(5, 0.3), np.arange(5.0)))
