from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial import procrustes

import lever_layouts
from ipar._expression import Expression
from ipar.training import EncoderRecipe, EncoderTraining, OverviewTraining
from ipar.training.encoder import Slide, fit_encoder

GENES = pd.Index([f"g{i}" for i in range(12)])


@pytest.fixture
def tissue():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12)) / 3

    def sample(n, scale):
        return sparse.csr_matrix(np.abs(rng.normal(size=(n, 12)) @ mix * scale).astype(np.float32))

    slides = [Slide(sample(80, 1.0), rng.random((80, 2)).astype(np.float32), name) for name in "ab"]
    return slides, Expression(sample(90, np.linspace(0.5, 2, 12)), GENES)


def test_components_get_the_covariance_of_the_training_slides(tissue):
    slides, query = tissue
    few = EncoderTraining(n_steps=2, batch_size=32)
    recipe = EncoderRecipe(
        n_pcs=5, n_output=8, pca_hidden=(8,), genes_hidden=(8,), pca_training=few, genes_training=few
    )
    encoder = fit_encoder(slides, GENES, ["pca"], recipe)["pca"]
    turned = lever_layouts.with_covariance_of(encoder, slides, query)
    known = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in slides])
    expected = np.cov((known @ encoder.loadings).T, bias=True)
    found, before = (np.cov((query.matrix @ one.loadings).T, bias=True) for one in (turned, encoder))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.trace(expected))
    assert np.abs(before - expected).max() > 0.1 * np.trace(expected)


def test_genes_get_the_variance_of_the_training_slides(tissue):
    slides, query = tissue
    scaled = lever_layouts.with_variance_of(slides, query).matrix.toarray()
    known = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in slides])
    ratio = scaled.std(0) / known.std(0)
    factor = scaled.max(0) / query.matrix.toarray().max(0)
    assert (np.isclose(ratio, 1, atol=0.01) | np.isclose(factor, 3) | np.isclose(factor, 1 / 3)).all()
    assert np.isclose(ratio, 1, atol=0.01).sum() > 6


def test_sketches_are_compared_on_one_encoder(slides, monkeypatch):
    few = EncoderTraining(n_steps=2, batch_size=32)
    recipe = EncoderRecipe(
        n_pcs=(5, 6),
        n_output=8,
        pca_hidden=(8,),
        genes_hidden=(8,),
        pca_training=few,
        genes_training=few,
        overview_training=OverviewTraining(n_steps=2, batch_size=2, size=(32, 48)),
    )
    monkeypatch.setattr(lever_layouts, "EncoderRecipe", lambda: recipe)
    fitted = []
    monkeypatch.setattr(lever_layouts, "fit_encoder", lambda *a, **o: fitted.append(fit_encoder(*a, **o)) or fitted[-1])
    found = dict(lever_layouts.layouts_of_sketches(slides, 0))
    assert len(fitted) == 1
    encoder = fitted[0]["both"]
    assert encoder.loadings.shape[1] == 5  # few cells teach
    query = lever_layouts.get_expression(slides.query)
    blind = lever_layouts.overview_of(lever_layouts.far_of(replace(encoder, sketch=None), query))
    without, both, alone, *sharpened = found.values()
    assert len(sharpened) == 3
    np.testing.assert_allclose(without, blind, atol=1e-5)
    assert {x.shape for x in found.values()} == {(slides.query.n_obs, 2)}
    assert procrustes(without, both)[2] > 1e-4
    assert procrustes(both, alone)[2] < procrustes(without, alone)[2]
