from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from ipar import baselines
from ipar.metrics import evaluate
from ipar.tl import _cross_validate, cross_validate, fit_ipalite, predict_coords

pytestmark = pytest.mark.filterwarnings("ignore::ipar.pp.LocalisabilityWarning")


@pytest.fixture
def quick(settings, tune):
    """Arguments of a fit that is quick: what is written matters, not how good it is."""
    return settings.fit | tune(n_minisets=2, refit=False) | {"max_epochs": 1}


def test_one_slide_by_hand(train, slides, quick, unchanged, global_random_state, tmp_path):
    changes = unchanged(train)  # with results of a fit that has seen all slides
    table = cross_validate(train, "slide", slides=["c"], controls=["permuted", "pca_knn_regression"], **quick)
    assert changes() == {("uns", "ipar")}
    assert list(table.columns) == ["slide", "method", "metric", "value", "difference"]
    assert table["method"].unique().tolist() == ["ipar", "permuted", "pca_knn_regression"]
    assert set(table["slide"]) == {"c"}

    own = slides.obs["slide"] == "c"
    known, query = slides[~own].copy(), slides[own].copy()
    truth = query.obsm.pop("spatial")
    predict_coords(query, fit_ipalite(known, "slide", **quick), progress=False)
    expected = {
        "ipar": evaluate(truth, query.obsm["X_ipar"], uncertainty=query.obs["ipar_uncertainty"]),
        "permuted": evaluate(truth, baselines.permuted(truth, random_state=0)),
        "pca_knn_regression": evaluate(
            truth, baselines.pca_knn_regression(known.X, known.obsm["spatial"], known.obs["slide"], query.X)
        ),
    }
    for method, scores in expected.items():
        found = table[table["method"] == method].set_index("metric")
        assert found["value"].to_dict() == pytest.approx(scores, rel=2e-2, abs=2e-2, nan_ok=True)
        lead = {name: expected["ipar"][name] - score for name, score in scores.items()}
        assert found["difference"].to_dict() == pytest.approx(lead, rel=5e-2, abs=5e-2, nan_ok=True)

    stored = train.uns["ipar"]["cross_validation"]
    pd.testing.assert_frame_equal(stored["table"], table)
    train.write_h5ad(tmp_path / "validated.h5ad")
    back = ad.read_h5ad(tmp_path / "validated.h5ad").uns["ipar"]["cross_validation"]
    assert back["controls"].tolist() == ["permuted", "pca_knn_regression"]
    assert back["table"]["value"].to_numpy() == pytest.approx(table["value"].to_numpy(), nan_ok=True)


def test_coordinates_of_the_slide_left_out_are_not_read(slides, quick, monkeypatch):
    placed = []
    monkeypatch.setattr(
        _cross_validate, "evaluate", lambda truth, found, uncertainty: placed.append(found) or {"n": 1.0}
    )
    other = slides.copy()
    own = np.flatnonzero(other.obs["slide"] == "b")
    other.obsm["spatial"][own] = other.obsm["spatial"][own[::-1]] ** 2
    for adata in (slides, other):
        cross_validate(adata, "slide", slides=["b"], controls=["pca_knn_regression"], **quick)
    ours, control = zip(placed[:2], placed[2:], strict=True)
    assert np.array_equal(*ours)
    assert np.array_equal(*control)


def test_every_slide_and_control_by_default(slides, monkeypatch):
    monkeypatch.setattr(_cross_validate, "_place", lambda *_: (np.eye(120, 2), None))
    for slow in ("pca_umap", "distance_embedding_mds"):
        monkeypatch.setitem(_cross_validate.CONTROLS, slow, lambda fold, seed: fold.known[1][:120])
    table = cross_validate(slides, "slide", progress=False)
    pairs = table[["slide", "method"]].drop_duplicates()
    assert len(pairs) == 3 * (1 + len(_cross_validate.CONTROLS))
    assert set(_cross_validate.CONTROLS) == set(baselines.__all__)
    permuted = table[(table["metric"] == "luna_spearman") & (table["method"] == "permuted")]
    assert permuted["value"].abs().max() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slides": ["e"]}, r"There is no slide 'e', found \['a', 'b', 'c'\]"),
        ({"slides": []}, "slides must name at least one slide"),
        ({"controls": ["pca"]}, r"There is no control 'pca', found \['permuted'"),
    ],
)
def test_names_that_are_not_known(slides, options, message, unchanged):
    changes = unchanged(slides)
    with pytest.raises(ValueError, match=message):
        cross_validate(slides, "slide", **options)
    assert changes() == set()


def test_two_slides_are_too_few(make_slides):
    with pytest.raises(ValueError, match="At least 3 slides are needed"):
        cross_validate(make_slides(("a", "b")), "slide")
