from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from benchmarks.ablations import training
from benchmarks.ablations.fits import read
from ipar.training import Run, SlideSet
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide

GENES = pd.Index([f"g{i}" for i in range(15)])


def expression(counts):
    return sparse.csr_matrix(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32))


def test_half_of_the_counts_are_left_of_every_gene():
    counts = np.random.default_rng(0).poisson(np.linspace(0.3, 40, 15), size=(400, 15))
    counts[:, 0] = np.maximum(counts[:, 0], 1)  # every cell has a gene counted once: units can be read off
    slide = Slide(expression(counts), np.zeros((400, 2), dtype=np.float32), "a")
    half = training.thinned(slide, 0)
    assert half.name != slide.name
    np.testing.assert_allclose(np.expm1(half.expression.toarray().astype(float)).sum(1), 1e4, rtol=1e-3)
    assert (half.expression.toarray()[counts == 0] == 0).all()
    once = counts == 1
    assert (half.expression.toarray()[once] > 0).mean() == pytest.approx(0.5, abs=0.08)
    # shares of many counts stay: thinning changes depth, not composition
    before, after = (np.expm1(s.expression.toarray().astype(float)).mean(0)[5:] for s in (slide, half))
    np.testing.assert_allclose(after, before, rtol=0.05)


def test_transport_brings_components_among_those_of_the_training_slides(hasty_recipe):
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(15, 15)) / 3

    def sample(n, name, scale=1.0):
        x = sparse.csr_matrix(np.abs(rng.normal(size=(n, 15)) @ mix * scale).astype(np.float32))
        return Slide(x, rng.random((n, 2)).astype(np.float32), name)

    slides = SlideSet((sample(150, "a"), sample(150, "b")), GENES)
    query = sample(120, "query", 3.0)  # another technology: thrice as wide
    encoder = fit_encoder(slides, ["pca"], hasty_recipe, Run())["pca"]
    moved = training.transported(encoder, slides, query, 0)
    known = np.concatenate([s.expression.toarray() - s.expression.toarray().mean(0) for s in slides]) @ encoder.loadings
    x = [one.expression.toarray() for one in (query, moved)]
    before, after = ((one - one.mean(0)) @ encoder.loadings for one in x)
    assert before.std() > 2.5 * known.std()
    assert after.std() < 1.2 * known.std()
    far, near = (np.median(np.linalg.norm(one[:, None] - known[None], axis=2).min(1)) for one in (before, after))
    assert near < far / 2
    # what the components do not hold is left as it was
    outside = np.eye(15) - encoder.loadings @ np.linalg.pinv(encoder.loadings)
    np.testing.assert_allclose((x[1] - x[0]) @ outside, 0, atol=1e-4)


def test_other_tissues_come_in_the_same_genes():
    other = ad.AnnData(
        np.arange(6, dtype=np.float32).reshape(2, 3) + 1,
        obs=pd.DataFrame({"slide": pd.Categorical(["m", "m"])}, index=["a", "b"]),
        var=pd.DataFrame(index=["g3", "unknown", "g0"]),
        obsm={"spatial": np.ones((2, 2))},
    )
    found = training.as_genes(other, GENES)
    assert list(found.var_names) == list(GENES)
    np.testing.assert_array_equal(found.X.toarray()[:, [0, 3]], [[3, 1], [6, 4]])
    assert np.count_nonzero(found.X.toarray()) == 4
    assert "spatial" in found.obsm


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
def test_layouts_have_the_names_of_the_records(slides, fitted, monkeypatch, small_recipe, names_of):
    others = SlideSet((read(slides)[0][0],), slides.train.var_names)
    monkeypatch.setattr(training, "RECIPE", small_recipe.embed)
    monkeypatch.setattr(training, "other_tissues", lambda *_: dict.fromkeys(("olfactory bulb", "liver"), others))
    found = dict(training.layouts(slides, 0, None))
    assert list(found) == names_of("transfer")
    plans = []

    def fit_model(slides, seed, recipe, **_):
        assert "X_ipar_embed" in slides.train.obsm  # one embedding for all
        plans.append(recipe.network.plan)
        return fitted.model

    monkeypatch.setattr(training, "fit_model", fit_model)
    found |= dict(training.layouts_by_minisets(slides, 0, small_recipe))
    assert list(found) == names_of("transfer") + names_of("minisets")
    assert len(set(plans)) == 5
    assert {x.shape for x in found.values()} == {slides.truth.shape}
