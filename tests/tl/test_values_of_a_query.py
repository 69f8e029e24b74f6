"""Queries whose values or gene names differ from those that a model was fitted on."""

from __future__ import annotations

import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import ipar
from ipar._expression import get_expression
from ipar.tl import predict_coords


def csr(x):
    return sparse.csr_matrix(x, dtype=np.float32)


def scaled(counts, total):
    return counts * (total / counts.sum(1, keepdims=True))


def beside(counts):
    """Counts of one half of the cells beside logarithms of the other."""
    x = np.log1p(scaled(counts, 1e4))
    x[: len(x) // 2] = counts[: len(x) // 2]
    return x


def ambient(counts):
    """Counts less a tenth of what is in all cells."""
    return np.maximum(counts - 0.1 * counts.mean(0), 0)


CORRECTED = {
    "log1p of CPM": (lambda c: np.log1p(scaled(c, 1e6)), r"natural logarithms \(median total 1,000,000 .*10,000 per cell"),
    "log1p of the median": (lambda c: np.log1p(scaled(c, np.median(c.sum(1)))), r"natural logarithms \(median total 2,9.*10,000"),
    "log2": (lambda c: np.log2(1 + scaled(c, 1e4)), "logarithms to base 2"),
    "log10": (lambda c: np.log10(1 + scaled(c, 1e4)), "logarithms to base 10"),
    "not logged": (lambda c: scaled(c, 1e4), "normalised values without logarithms"),
    "logged twice": (lambda c: np.log1p(np.log1p(scaled(c, 1e4))), "logarithms of logarithms"),
    "fractions": (lambda c: scaled(c, 1.0), r"fractions without logarithms \(median total 1 per cell"),
    "counts": (lambda c: c, r"raw counts \(median total 2,9"),
    "counts beside logarithms": (beside, "Expression of slide 'first' looks like raw counts"),
    "ambient": (ambient, "fractional counts"),
}  # fmt: skip
REFUSED = {
    "binary": (lambda c: np.minimum(c, 1), r"must not be binary.*start from {start}: call sc\.pp\.normalize_total\(adata, target_sum=10000\)"),
    "counts beside logarithms in one slide": (
        lambda c: np.where(np.arange(120)[:, None] % 3 == 0, c, np.log1p(scaled(c, 1e4))),
        r"counts in some cells and logarithms in others: .* as library_key\. Or start from {start}",
    ),
    "scaled": (lambda c: (c - c.mean(0)) / c.std(0), "not scaled values or residuals.*from before sc.pp.scale.*target_sum=\\d+"),
}  # fmt: skip


@pytest.fixture
def counts(query):
    return query.layers["counts"].toarray().astype(np.float64)


@pytest.fixture
def halves(query):
    """Two slides, so that each can hold values of its own."""
    query.obs["half"] = pd.Categorical(np.where(np.arange(120) < 60, "first", "second"))
    return query


def place(adata, model, **options):
    """Coordinates before sharpening, which makes much of rounding errors, and what was said beside."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        placed = predict_coords(adata, model, library_key="half", sharpen=False, copy=True, progress=False, **options)
    return placed.obsm["X_ipar"], said


@pytest.mark.parametrize("name", list(CORRECTED))
def test_values_on_another_scale_are_placed_as_if_on_the_models(halves, model, counts, unchanged, name):
    make, message = CORRECTED[name]
    halves.X = csr(np.log1p(scaled(ambient(counts) if name == "ambient" else counts, 1e4)))
    expected, said = place(halves, model)
    assert said == []
    halves.X = csr(make(counts))
    changes = unchanged(halves)
    found, said = place(halves, model)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert changes() == set()
    assert len(said) == 1
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match=message):
        warnings.warn(said[0].message, stacklevel=1)


def test_values_on_the_models_scale_are_left_as_they_are(query, model):
    found = get_expression(query, model=model)
    assert np.shares_memory(found.matrix.data, query.X.data)
    assert found.genes.equals(query.var_names)
    unaware = predict_coords(query, replace(model, scale=None), copy=True, progress=False)
    assert np.array_equal(
        predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"], unaware.obsm["X_ipar"]
    )


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", list(REFUSED))
def test_values_that_cannot_be_brought_back_are_refused(halves, model, counts, unchanged, name, raw):
    make, message = REFUSED[name]
    if raw:
        halves.raw = halves
    halves.X = csr(make(counts))
    changes, start = unchanged(halves), r"adata\.raw\.to_adata\(\)" if raw else "the counts"
    with pytest.raises(ValueError, match=message.format(start=start)) as error:
        place(halves, model)
    assert ("adata.raw.to_adata()" in str(error.value)) == raw
    assert changes() == set()


def test_every_way_to_place_reads_values_alike(alone, generated):
    counts = alone.query.copy()
    counts.X = counts.layers["counts"]
    for query, model in ((alone.query, alone.model), (generated.query, generated.model)):
        other = query.copy()
        other.X = other.layers["counts"]
        with pytest.warns(UserWarning, match="raw counts"):
            found = ipar.pp.embed(other, model=model, copy=True)
        np.testing.assert_allclose(
            found.obsm["X_ipar_embed"],
            ipar.pp.embed(query, model=model, copy=True).obsm["X_ipar_embed"],
            atol=2e-2,
        )
    with pytest.warns(UserWarning, match="raw counts"):
        mapped = ipar.tl.map_to_reference(counts, alone.model, copy=True, progress=False)
    expected = ipar.tl.map_to_reference(alone.query, alone.model, copy=True, progress=False)
    np.testing.assert_allclose(mapped.obsm["ipar_map_reference"], expected.obsm["ipar_map_reference"], atol=2.0)
    with pytest.warns(UserWarning, match="raw counts"):
        adapter = ipar.tl.adapt(alone.model, counts).adapter
    np.testing.assert_allclose(adapter.mean, ipar.tl.adapt(alone.model, alone.query).adapter.mean, rtol=1e-4)
    with pytest.warns(UserWarning, match="raw counts"):
        sampled = ipar.tl.sample_coords(counts, generated.model, n_samples=2, n_steps=2, copy=True, progress=False)
    assert np.isfinite(sampled.obsm["X_ipar"]).all()


def test_models_keep_their_scale(fitted, generated, tmp_path):
    for own in (fitted.model, generated.model):
        assert own.scale.total == pytest.approx(1e4, rel=1e-4)
        assert own.scale.even
        assert own.scale.base == np.e
        own.save(tmp_path / type(own).__name__)
        back = ipar.load(tmp_path / type(own).__name__).scale
        assert back.state()[0] == own.scale.state()[0]
        assert np.array_equal(back.means, own.scale.means)


def test_training_slides_on_another_scale_than_the_others(make_slides, settings):
    slides = make_slides()
    expected = ipar.pp.embed(slides, "slide", copy=True, **settings.hasty).obsm["X_ipar_embed"]
    mixed, own = slides.X.toarray(), (slides.obs["slide"] == "b").to_numpy()
    mixed[own] = np.log1p(np.expm1(mixed[own]) * 100)
    slides.X = csr(mixed)
    with pytest.warns(UserWarning, match="slide 'b' looks like natural logarithms .*1,000,000 .*other slides .*10,000"):
        found = ipar.pp.embed(slides, "slide", copy=True, **settings.hasty).obsm["X_ipar_embed"]
    np.testing.assert_allclose(found, expected, atol=0.05)


SPELLINGS = {
    "case": (str.upper, "upper and lower case"),
    "spaces": (lambda name: f"{name} ", "spaces around names"),
    "prefix": (lambda name: f"GRCh38_{name}", "prefixes of genome assemblies"),
}


@pytest.mark.parametrize("name", list(SPELLINGS))
def test_genes_of_another_spelling_are_the_same_genes(query, model, name):
    change, named = SPELLINGS[name]
    expected = predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"]
    query.var_names = [change(gene) for gene in query.var_names]
    with pytest.warns(UserWarning, match=f"60 of the model's 60 genes .*{named}") as said:
        found = predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"]
    assert np.array_equal(found, expected)
    assert [one.filename for one in said] == [__file__]


def test_names_in_a_column(query, model, unchanged):
    expected = predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"]
    query.var["feature_name"] = query.var_names.astype(str)
    query.var_names = [f"ENSMUSG{i:011}" for i in range(60)]
    changes = unchanged(query)
    with pytest.raises(ValueError, match="pass gene_key='feature_name'"):
        predict_coords(query, model, progress=False)
    found = predict_coords(query, model, gene_key="feature_name", copy=True, progress=False)
    assert np.array_equal(found.obsm["X_ipar"], expected)
    assert changes() == set()
    with pytest.raises(KeyError, match=r"no column 'symbol', found \['feature_name'\]"):
        predict_coords(query, model, gene_key="symbol", progress=False)


def test_a_fit_on_names_in_a_column_finds_them_again(make_slides, settings):
    slides = make_slides()
    slides.var["symbol"] = slides.var_names.astype(str)
    slides.var_names = [f"ENSMUSG{i:011}" for i in range(60)]
    model = ipar.tl.fit_ipalite(slides, "slide", gene_key="symbol", **settings.fit)
    assert model.encoder.genes.tolist() == slides.var["symbol"].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_coords(slides, progress=False)
    named = ad.AnnData(slides.X, obs=slides.obs[["slide"]], var=pd.DataFrame(index=slides.var["symbol"].to_numpy()))
    predict_coords(named, model, library_key="slide", progress=False)
    assert np.array_equal(named.obsm["X_ipar"], slides.obsm["X_ipar"])
