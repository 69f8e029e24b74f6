"""Training slides kept small: what is kept, what of it is lost, and what genes are expected of features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar.model.reference import Reference

N_GENES = 30


class Linear:
    """An encoder whose embedding is a linear map of genes that are centred within the slide."""

    def __init__(self, width=12, seed=0):
        self.genes = pd.Index([f"gene{i}" for i in range(N_GENES)])
        self.axes = np.random.default_rng(seed).normal(size=(N_GENES, width)).astype(np.float32)

    def transform(self, matrix, genes, slides):
        assert genes.equals(self.genes)
        x = matrix.toarray()
        return ((x - x.mean(axis=0)) @ self.axes).astype(np.float32)


def expression_of(rng, n, rank=None):
    """Log expression; of a low rank around its mean, if told so."""
    if rank is None:
        return sparse.csr_matrix(rng.random((n, N_GENES)) * (rng.random((n, N_GENES)) < 0.4), dtype=np.float32)
    loadings = np.random.default_rng(7).normal(size=(rank, N_GENES))
    return sparse.csr_matrix(5 + 0.3 * rng.normal(size=(n, rank)) @ loadings, dtype=np.float32)


def reference_of(sizes=(80, 60), *, n_components=64, rank=None, offset=0.0, width=12):
    rng = np.random.default_rng(0)
    expression = [expression_of(rng, n, rank) for n in sizes]
    coords = [rng.uniform(-50, 50, size=(n, 2)) + offset for n in sizes]
    encoder = Linear(width)
    names = [f"s{i}" for i in range(len(sizes))]
    return Reference.of(encoder, expression, coords, names, n_components=n_components), encoder, expression, coords


def test_features_are_the_embedding_up_to_a_rotation():
    reference, encoder, expression, _ = reference_of()
    whole = np.concatenate([encoder.transform(x, encoder.genes, None) for x in expression])
    projected = reference.project(whole)
    centred = whole - whole.mean(axis=0)
    np.testing.assert_allclose(projected @ projected.T, centred @ centred.T, atol=1e-3 * np.square(centred).max())
    kept = np.concatenate([slide.features for slide in reference.slides])
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, projected, rtol=2e-3, atol=1e-3)


def test_of_many_components_the_first_are_kept():
    reference, encoder, expression, _ = reference_of(n_components=4)
    whole = np.concatenate([encoder.transform(x, encoder.genes, None) for x in expression]).astype(float)
    assert reference.axes.shape == (12, 4)
    assert reference.decoder.shape == (4, N_GENES)
    values = np.linalg.svd(whole - whole.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(reference.project(whole), axis=0), values[:4], rtol=1e-4)


def test_names():
    reference = reference_of()[0]
    assert reference.names == ["s0", "s1"]
    assert len(reference.slide("s1")) == 60
    for wrong in (None, "section", "s2"):
        with pytest.raises(ValueError, match=rf"must name a training slide.*found {wrong!r}.*\['s0', 's1'\]"):
            reference.slide(wrong)
    alone = replace(reference, slides=reference.slides[:1])
    assert alone.slide() is alone.slide("s0") is alone.slides[0]
    with pytest.raises(ValueError, match=r"found 's1': choose one of \['s0'\]"):
        alone.slide("s1")


def test_ten_thousand_cells_take_two_megabytes_at_most():
    reference = reference_of((2500,), width=100)[0]
    arrays = reference.state()[1]
    kept = {name: array for name, array in arrays.items() if name not in ("centre", "axes", "mean", "decoder")}
    assert sum(array.nbytes for array in kept.values()) <= 2e6 / 4
    assert reference.axes.shape == (100, 64)


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_a_state_gives_the_reference_back_wherever_the_slides_lie(offset):
    reference, _, _, coords = reference_of(offset=offset)
    back = Reference.from_state(*reference.state())
    assert back.names == reference.names
    for name in ("centre", "axes", "mean", "decoder"):
        assert np.array_equal(getattr(back, name), getattr(reference, name))
    for one, other, truth in zip(back.slides, reference.slides, coords, strict=True):
        assert np.array_equal(one.features, other.features)
        assert one.features.dtype == np.float16
        assert np.array_equal(other.coords, truth)
        assert one.coords.dtype == np.float64
        np.testing.assert_allclose(one.coords, truth, rtol=0, atol=1e-5)  # of a section 100 wide


def test_the_mean_is_that_of_slides_not_of_cells():
    reference, _, expression, _ = reference_of((80, 20))
    np.testing.assert_allclose(
        reference.mean, np.mean([x.toarray().mean(axis=0) for x in expression], axis=0), rtol=1e-5
    )


def test_what_is_linear_in_features_is_expected_as_it_is():
    reference, encoder, expression, _ = reference_of(rank=3)
    for x in expression:
        truth = x.toarray() - x.toarray().mean(axis=0)
        features = reference.project(encoder.transform(x, encoder.genes, None))
        gap = np.linalg.norm(reference.expected(features) - truth) / np.linalg.norm(truth)
        assert gap < 0.02


def test_expected_expression_is_a_ridge_regression():
    reference, encoder, expression, _ = reference_of()
    z = np.concatenate([reference.project(encoder.transform(x, encoder.genes, None)) for x in expression]).astype(float)
    y = np.concatenate([x.toarray() - x.toarray().mean(axis=0) for x in expression])
    ridge = 1e-3 * np.square(z).sum() / z.shape[1]
    augmented = np.r_[z, np.sqrt(ridge) * np.eye(z.shape[1])]
    decoder = np.linalg.lstsq(augmented, np.r_[y, np.zeros((z.shape[1], N_GENES))], rcond=None)[0]
    np.testing.assert_allclose(reference.decoder, decoder, atol=1e-4 * np.abs(decoder).max())
    np.testing.assert_allclose(reference.expected(z[3].astype(np.float32)), z[3] @ decoder, atol=1e-4)


def test_a_sample_is_of_all_slides_and_repeatable():
    reference = reference_of((80, 60))[0]
    assert reference.sample(1000).shape == (140, 12)
    some = reference.sample(50)
    assert some.dtype == np.float32
    assert np.array_equal(some, reference.sample(50))
    for slide in reference.slides:
        own = slide.features.astype(np.float32)
        assert (some[:, None] == own[None]).all(axis=-1).any()
