from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist

from ipar._chunks import InMemory
from ipar.graph.averages import averaged_features, neighbor_average
from ipar.model import GeometryEncoder
from ipar.model.features import Averaging, Reading, equalise_blocks, whole_slides
from ipar.model.genes import match_genes
from ipar.model.parts import EncoderPart
from ipar.model.slide_pcs import SlidePCs
from ipar.nn import SetEncoder, SharedEncoder

GENES = pd.Index([f"g{i}" for i in range(20)])
N = 90


@pytest.fixture
def encoder():
    """One network on components for both terms, one on genes for the global term."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(20, 5)).astype(np.float32)
    pca = SharedEncoder(15, hidden=(16,), n_output=8).eval()
    genes = SharedEncoder(20, hidden=(16,), n_output=8).eval()
    parts = (EncoderPart("pca", pca, ("local", "global")), EncoderPart("genes", genes, ("global",)))
    scale = rng.uniform(0.2, 2.0, size=20).astype(np.float32)
    return GeometryEncoder(GENES, loadings, parts, {"inputs": "both"}, Averaging(20, 2), gene_scale=scale)


@pytest.fixture
def cells():
    rng = np.random.default_rng(1)
    matrix = sparse.csr_matrix(rng.poisson(1.0, size=(N, 20)) * rng.random((N, 20)), dtype=np.float32)
    return matrix, pd.Categorical(rng.permutation(["a"] * 50 + ["b"] * 30 + ["c"] * 10))


def test_embedding_by_hand(encoder, cells):
    # slide by slide and dense, block by block
    matrix, slides = cells
    found = encoder.transform(matrix, GENES, slides)
    assert found.shape == (N, 12)
    assert found.dtype == np.float32
    assert encoder.n_output == 12
    assert encoder.n_blocks == 3
    for name in "abc":
        own = np.flatnonzero(slides == name)
        x = matrix[own].toarray().astype(float)
        x = x - x.mean(0)
        z = x @ encoder.loadings
        average = neighbor_average(z.astype(np.float32), pd.Categorical([name] * len(own)), 20).toarray().astype(float)
        hops = [z, average @ z, average @ average @ z]
        hops = np.hstack([block * np.sqrt((z**2).mean() / (block**2).mean()) for block in hops])
        with torch.no_grad():
            pca = encoder.parts[0].net(torch.from_numpy(hops.astype(np.float32))).numpy()
            genes = encoder.parts[1].net(torch.from_numpy((encoder.gene_scale * x).astype(np.float32))).numpy()
        for i, block in enumerate((pca[:, :4], pca[:, 4:], genes[:, 4:])):
            block = block * 9.4 / np.sqrt(3) / np.sqrt(np.square(block).sum(1).mean())
            np.testing.assert_allclose(found[own, 4 * i : 4 * i + 4], block, atol=1e-3)


def test_every_slide_has_the_same_norm(encoder, cells):
    matrix, slides = cells
    found = encoder.transform(matrix, GENES, slides).astype(float)
    for name in "abc":
        own = np.square(found[slides == name])
        assert own.sum(1).mean() == pytest.approx(9.4**2, rel=1e-4)
        for block in np.split(own, 3, axis=1):
            assert block.sum(1).mean() == pytest.approx(9.4**2 / 3, rel=1e-4)


def test_slides_do_not_see_each_other(encoder, cells):
    matrix, slides = cells
    together = encoder.transform(matrix, GENES, slides)
    for name in "abc":
        own = np.flatnonzero(slides == name)
        alone = encoder.transform(matrix[own], GENES, pd.Categorical([name] * len(own)))
        np.testing.assert_allclose(together[own], alone, atol=1e-4)


def test_order_of_cells_does_not_matter(encoder, cells):
    matrix, slides = cells
    order = np.random.default_rng(2).permutation(N)
    found = encoder.transform(matrix[order], GENES, slides[order])
    np.testing.assert_allclose(found, encoder.transform(matrix, GENES, slides)[order], atol=1e-4)


def test_cells_made_dense_in_parts_give_the_same(encoder, cells):
    matrix, slides = cells
    own = encoder.loadings, encoder.averaging, encoder.gene_scale
    read = [Reading.of(InMemory(matrix, n_rows), slides, *own) for n_rows in (N, 7)]
    for part in encoder.parts:
        whole, parts = (encoder._embed(part, one) for one in read)
        np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_offsets_of_a_slide_are_taken_out(encoder, cells):
    matrix, slides = cells
    shifted = matrix.toarray() + np.where(np.asarray(slides) == "b", 2.5, 0.0)[:, None] * np.linspace(0, 1, 20)
    found = encoder.transform(sparse.csr_matrix(shifted, dtype=np.float32), GENES, slides)
    np.testing.assert_allclose(found, encoder.transform(matrix, GENES, slides), atol=1e-3)


def test_genes_are_matched_by_name(encoder, cells):
    matrix, slides = cells
    expected = encoder.transform(matrix, GENES, slides)
    order = np.random.default_rng(3).permutation(20)
    wide = sparse.hstack([matrix[:, order], sparse.csr_matrix(np.ones((N, 4), dtype=np.float32))], format="csr")
    names = GENES[order].append(pd.Index(["x1", "x2", "x3", "x4"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(encoder.transform(wide, names, slides), expected, atol=1e-4)


def test_missing_genes_stand_at_the_mean_of_their_slide(encoder, cells):
    matrix, slides = cells
    dense = matrix.toarray()
    for name in "abc":
        dense[np.asarray(slides) == name, :6] = dense[np.asarray(slides) == name, :6].mean(0)
    expected = encoder.transform(sparse.csr_matrix(dense), GENES, slides)
    with pytest.warns(
        UserWarning, match="6 of the model's 20 genes are missing from the data; they are filled at the mean"
    ):
        found = encoder.transform(matrix[:, 6:], GENES[6:], slides)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_missing_genes_are_empty_columns(cells):
    matrix, _ = cells
    with pytest.warns(UserWarning, match="5 of the model's 20 genes"):
        found = match_genes(matrix[:, ::-1][:, :15], GENES[::-1][:15], GENES)
    assert found[:, :5].nnz == 0
    assert np.array_equal(found[:, 5:].toarray(), matrix[:, 5:].toarray())


@pytest.mark.parametrize("n_shared", [0, 9])
def test_too_few_genes_name_both_namings(encoder, cells, n_shared):
    names = pd.Index([f"g{i}" if i < n_shared else f"ENSMUSG{i:05}" for i in range(20)])[::-1]
    message = (
        rf"Only {n_shared} of the model's 20 genes.*at least half.*such as 'g0', the data 'ENSMUSG00019'.*one naming"
    )
    with pytest.raises(ValueError, match=message):
        encoder.transform(cells[0], names, cells[1])


def test_data_without_any_gene():
    with pytest.raises(ValueError, match="Only 0 of the model's 20 genes"):
        match_genes(sparse.csr_matrix((5, 0), dtype=np.float32), pd.Index([], dtype=object), GENES)


def test_a_slide_without_expression_stays_finite(encoder, cells):
    matrix, slides = cells
    empty = sparse.csr_matrix(matrix.multiply((np.asarray(slides) != "b")[:, None]), dtype=np.float32)
    assert np.isfinite(encoder.transform(empty, GENES, slides)).all()


def test_inputs_are_left_alone(encoder, cells, global_random_state):
    matrix, slides = cells
    before = matrix.copy()
    encoder.transform(matrix, GENES, slides)
    assert np.array_equal(matrix.data, before.data)
    assert np.array_equal(matrix.indices, before.indices)


def test_means_by_the_definition(cells):
    matrix, slides = cells
    read = Reading.of(matrix, slides, np.ones((20, 1), np.float32), Averaging())
    frame = pd.DataFrame(matrix.toarray()).groupby(np.asarray(slides)).mean()
    np.testing.assert_allclose(read.means, frame.to_numpy(), rtol=1e-5)
    assert [list(slides.categories)[code] for code in read.codes] == list(slides)


def test_blocks_are_only_rescaled():
    rng = np.random.default_rng(0)
    h = (rng.normal(size=(40, 6)) * [1, 1, 100, 100, 0, 0]).astype(np.float32)
    codes = np.repeat([0, 1], 20)
    h[:20] *= 5
    found = equalise_blocks(h.copy(), codes, 3)
    assert found.dtype == np.float32
    for part in (slice(0, 20), slice(20, 40)):
        for block in (slice(0, 2), slice(2, 4)):
            ratio = found[part, block] / h[part, block]
            np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
            assert np.square(found[part, block]).sum(1).mean() == pytest.approx(9.4**2 / 3, rel=1e-4)
    assert not found[:, 4:].any()  # nothing to scale is not blown up


def test_columns_that_were_taught_distances_across_the_tissue(encoder):
    assert encoder.global_columns.tolist() == [*range(4, 8), *range(8, 12)]
    local = EncoderPart("pca", encoder.parts[0].net, ("local",))
    assert GeometryEncoder(GENES, encoder.loadings, (local,), {}).global_columns.tolist() == [0, 1, 2, 3]


@pytest.fixture
def overseen(encoder):
    """The encoder with a network that sees a slide as a whole."""
    return replace(encoder, set_encoder=SetEncoder(15, width=8, n_heads=2, n_output=4).eval(), set_encoder_weight=2.0)


def test_global_features_by_hand(overseen, encoder, cells):
    matrix, slides = cells
    h, across = overseen.features(matrix, GENES, slides)
    np.testing.assert_array_equal(h, encoder.transform(matrix, GENES, slides))
    assert across.shape == (N, 12)
    for name in "abc":
        own = np.flatnonzero(slides == name)
        alone = matrix[own].toarray().astype(float)
        z = ((alone - alone.mean(0)) @ overseen.loadings).astype(np.float32)
        one = pd.Categorical([name] * len(own))
        read = averaged_features(z, neighbor_average(z, one, 20), np.zeros(len(own), dtype=int), 2)
        with torch.no_grad():
            whole = overseen.set_encoder(torch.from_numpy(read)[None])[0].numpy()
        blocks = [h[own, 4:8], h[own, 8:], whole - whole.mean(0)]
        expected = [block * 9.4 / np.sqrt(np.square(block).sum(1).mean()) for block in blocks]
        np.testing.assert_allclose(across[own], np.hstack([*expected[:2], 2 * expected[2]]), atol=4e-3)


def test_without_a_set_encoder_global_features_are_the_embeddings_own(encoder, cells):
    h, across = encoder.features(cells[0], GENES, cells[1])
    assert across.shape == (N, 8)
    scale = np.linalg.norm(across, axis=1) / np.linalg.norm(h[:, 4:], axis=1)
    np.testing.assert_allclose(scale, np.sqrt(3), rtol=1e-4)


def test_large_slides_attend_to_some_of_their_cells(overseen, cells):
    matrix, slides = cells
    read = Reading.of(matrix, slides, overseen.loadings, overseen.averaging)
    expected, found = (whole_slides(overseen.set_encoder, read.components, read.codes, n) for n in (2048, 40))
    large = np.asarray(slides == "a")  # 50 cells
    np.testing.assert_allclose(found[~large], expected[~large], atol=1e-5)
    assert not np.allclose(found[large], expected[large], atol=1e-3)
    assert np.corrcoef(found[large].ravel(), expected[large].ravel())[0, 1] > 0.9


def drawn_together(x):
    """Cosines after two steps towards like cells, by dense algebra from cosines alone: no components are needed."""
    n = len(x)
    k = min(15, n // 10)
    cosines = x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2)
    others = cosines - 2 * np.eye(n)
    near = (others >= np.sort(others, axis=1)[:, [-k]]).astype(float)
    weights = np.eye(n) + (near + near.T) / 2
    average = weights / weights.sum(1, keepdims=True)
    for _ in range(2):
        # unit rows u with u u' = cosines: the norm of a row of A u is the root of the diagonal of A cosines A'
        step = np.eye(n) + average / np.sqrt(np.diag(average @ cosines @ average.T))[:, None]
        moved = step @ cosines @ step.T
        cosines = moved / np.sqrt(np.outer(np.diag(moved), np.diag(moved)))
    return cosines


def test_slide_pcs_are_those_of_every_slide_by_itself(encoder, cells):
    matrix, slides = cells
    found = encoder.slide_pcs(matrix, GENES, slides)
    assert found.shape == (N, 100)
    assert found.dtype == np.float32
    for name, rank in (("a", 19), ("b", 19), ("c", 9)):
        own = np.flatnonzero(slides == name)
        x = matrix[own].toarray().astype(float)
        u, s, _ = np.linalg.svd((x - x.mean(0)) * encoder.gene_scale, full_matrices=False)
        assert not found[own, rank:].any()
        expected = drawn_together((u * s)[:, :rank])
        np.testing.assert_allclose(found[own] @ found[own].T, expected, atol=1e-3)


def test_without_a_scale_all_genes_count_alike(encoder, cells):
    matrix, slides = cells
    plain, alike = (replace(encoder, gene_scale=scale) for scale in (None, np.ones(20, dtype=np.float32)))
    np.testing.assert_allclose(
        plain.transform(matrix, GENES, slides), alike.transform(matrix, GENES, slides), atol=1e-5
    )
    own = [one.slide_pcs(matrix, GENES, slides) for one in (plain, alike)]
    np.testing.assert_allclose(own[0] @ own[0].T, own[1] @ own[1].T, atol=1e-4)


def test_slide_pcs_take_the_encoders_genes_by_name(encoder, cells):
    matrix, slides = cells
    others = sparse.csr_matrix(np.random.default_rng(2).random((N, 7)), dtype=np.float32)
    more = sparse.csr_matrix(sparse.hstack([others, matrix[:, ::-1]]))
    names = pd.Index([f"other{i}" for i in range(7)]).append(GENES[::-1])
    expected = encoder.slide_pcs(matrix, GENES, slides)
    np.testing.assert_allclose(encoder.slide_pcs(more, names, slides), expected, atol=1e-4)


def test_rows_in_another_order_are_the_same_to_the_last_bit(overseen, cells):
    matrix, slides = cells
    order = np.random.default_rng(3).permutation(N)
    shuffled = matrix[order], GENES, slides[order]
    for before, after in zip(
        overseen.features(matrix, GENES, slides),
        overseen.features(*shuffled),
        strict=True,
    ):
        assert np.array_equal(after, before[order])
    assert np.array_equal(overseen.slide_pcs(*shuffled), overseen.slide_pcs(matrix, GENES, slides)[order])


def test_slide_pcs_of_many_cells_are_found_on_some_of_them():
    rng = np.random.default_rng(0)
    dense = np.abs(rng.normal(size=(600, 4)) @ rng.normal(size=(4, 40))).astype(np.float32)
    matrix, codes = sparse.csr_matrix(dense), np.repeat([0, 1], 300)
    every, some = (SlidePCs(n_components=4, n_steps=0, most_cells=most).of(matrix, codes) for most in (300, 150))
    for code in (0, 1):
        own = codes == code
        # the planes are nearly the same: distances in them are, whatever the axes
        assert np.corrcoef(pdist(every[own]), pdist(some[own]))[0, 1] > 0.9
    scaled = SlidePCs(n_components=4, n_steps=0).of(matrix, codes, np.full(40, 2.0, dtype=np.float32))
    np.testing.assert_allclose(np.abs(scaled), np.abs(every), atol=1e-3)
