from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from benchmarks.ablations import encoder as ablation
from benchmarks.ablations.fits import fit, map_of, read
from ipar.training import Run, SlideSet
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide


@pytest.fixture
def tissue(slide_set):
    """Slides whose genes vary together, and a query whose genes vary otherwise."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12)) / 3

    def sample(n, scale):
        return sparse.csr_matrix(np.abs(rng.normal(size=(n, 12)) @ mix * scale).astype(np.float32))

    known = tuple(Slide(sample(80, 1.0), rng.random((80, 2)).astype(np.float32), name) for name in "ab")
    query = Slide(sample(90, np.linspace(0.5, 2, 12)), np.full((90, 2), np.nan, dtype=np.float32), "query")
    return SlideSet(known, slide_set.genes[:12]), query


def test_components_get_the_covariance_of_the_training_slides(tissue, hasty_recipe):
    known, query = tissue
    encoder = fit_encoder(known, ["pca"], replace(hasty_recipe, n_pcs=5), Run())["pca"]
    turned = ablation.with_covariance_of(encoder, list(known), query)
    x = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in known])
    expected = np.cov((x @ encoder.loadings).T, bias=True)
    found, before = (np.cov((query.expression @ one.loadings).T, bias=True) for one in (turned, encoder))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.trace(expected))
    assert np.abs(before - expected).max() > 0.1 * np.trace(expected)


def test_genes_get_the_variance_of_the_training_slides(tissue):
    known, query = tissue
    scaled = ablation.with_variance_of(list(known), query).expression.toarray()
    x = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in known])
    ratio = scaled.std(0) / x.std(0)
    factor = scaled.max(0) / query.expression.toarray().max(0)
    assert (np.isclose(ratio, 1, atol=0.01) | np.isclose(factor, 3) | np.isclose(factor, 1 / 3)).all()
    assert np.isclose(ratio, 1, atol=0.01).sum() > 6


def test_layouts_have_the_names_of_the_records(slides, hasty_recipe, names_of, monkeypatch):
    monkeypatch.setitem(ablation.CONTROLS, "set_transformer", lambda *_: slides.truth)
    found = dict(ablation.layouts(slides, 0, hasty_recipe))
    assert list(found) == names_of("encoder")
    assert {x.shape for x in found.values()} == {slides.truth.shape}
    known, query = read(slides)
    np.testing.assert_allclose(found["… and the set encoder"], map_of(fit(known, hasty_recipe, 0), query), atol=1e-5)
