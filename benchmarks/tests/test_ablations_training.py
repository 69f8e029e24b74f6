from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import lever_training
from ipar._expression import Expression
from ipar.training import EncoderRecipe, EncoderTraining
from ipar.training.encoder import Slide, fit_encoder

GENES = pd.Index([f"g{i}" for i in range(15)])
FEW = EncoderTraining(n_steps=2, batch_size=32)
RECIPE = EncoderRecipe(n_pcs=6, n_output=8, pca_hidden=(8,), genes_hidden=(8,), pca_training=FEW, genes_training=FEW)


def expression(counts):
    return sparse.csr_matrix(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32))


def test_half_of_the_counts_are_left_of_every_gene():
    counts = np.random.default_rng(0).poisson(np.linspace(0.3, 40, 15), size=(400, 15))
    counts[:, 0] = np.maximum(counts[:, 0], 1)  # every cell has a gene counted once: units can be read off
    slide = Slide(expression(counts), np.zeros((400, 2), dtype=np.float32), "a")
    half = lever_training.thinned(slide, 0)
    assert half.name != slide.name
    np.testing.assert_allclose(np.expm1(half.expression.toarray().astype(float)).sum(1), 1e4, rtol=1e-3)
    assert (half.expression.toarray()[counts == 0] == 0).all()
    once = counts == 1
    assert (half.expression.toarray()[once] > 0).mean() == pytest.approx(0.5, abs=0.08)
    # shares of many counts stay: thinning changes depth, not composition
    before, after = (np.expm1(s.expression.toarray().astype(float)).mean(0)[5:] for s in (slide, half))
    np.testing.assert_allclose(after, before, rtol=0.05)


def test_transport_brings_components_among_those_of_the_training_slides():
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(15, 15)) / 3

    def sample(n, shift):
        return sparse.csr_matrix(np.abs(rng.normal(size=(n, 15)) @ mix + shift).astype(np.float32))

    slides = [Slide(sample(150, 0.0), rng.random((150, 2)).astype(np.float32), name) for name in "ab"]
    query = Expression(sample(120, 0.0) * 3.0, GENES)  # another technology: thrice as wide
    encoder = fit_encoder(slides, GENES, ["pca"], RECIPE)["pca"]
    moved = lever_training.transported(encoder, slides, query, 0)
    known = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in slides]) @ encoder.loadings
    before, after = ((m - m.mean(0)) @ encoder.loadings for m in (query.matrix.toarray(), moved.matrix.toarray()))
    assert before.std() > 2.5 * known.std()
    assert after.std() < 1.2 * known.std()
    nearest = np.linalg.norm(after[:, None] - known[None], axis=2).min(1)
    assert np.median(nearest) < np.median(np.linalg.norm(before[:, None] - known[None], axis=2).min(1)) / 2
    outside = np.eye(15) - encoder.loadings @ np.linalg.pinv(encoder.loadings)
    np.testing.assert_allclose(
        (moved.matrix.toarray() - query.matrix.toarray()) @ outside, 0, atol=1e-4
    )  # what the components do not hold is left as it was


def test_other_tissues_come_in_the_same_genes():
    other = ad.AnnData(
        np.arange(6, dtype=np.float32).reshape(2, 3) + 1,
        obs=pd.DataFrame({"slide": pd.Categorical(["m", "m"])}, index=["a", "b"]),
        var=pd.DataFrame(index=["g3", "unknown", "g0"]),
        obsm={"spatial": np.ones((2, 2))},
    )
    found = lever_training.as_genes(other, GENES)
    assert list(found.var_names) == list(GENES)
    np.testing.assert_array_equal(found.X.toarray()[:, [0, 3]], [[3, 1], [6, 4]])
    assert np.count_nonzero(found.X.toarray()) == 4
    assert "spatial" in found.obsm
