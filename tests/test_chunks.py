"""Rows in chunks are the rows of the whole, from any source, and no more than a chunk is held."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar._chunks import InMemory, as_rows
from ipar._scaling import Target, on_one_scale
from ipar._sources import ChunkSize, expression_rows
from ipar._streamed import Streamed

da = pytest.importorskip("dask.array")

N = 1000
SMALL = ChunkSize(most_values=2000)


class Counting:
    """Hands out rows of a matrix; no more than two chunks may be alive, that of a loop and the next one."""

    def __init__(self, matrix):
        self.matrix, self.alive, self.n_read = matrix, [], 0

    def __call__(self, start, stop):
        chunk = self.matrix[start:stop]
        self.alive = [one for one in self.alive if one() is not None] + [weakref.ref(chunk.data)]
        assert len(self.alive) <= 2, "chunks are kept"
        self.n_read += stop - start
        return chunk

    def rows(self, n_rows):
        n = self.matrix.shape[0]
        return Streamed(self.matrix.shape, (*range(0, n, n_rows), n), self, "X")


@pytest.fixture
def matrix():
    return sparse.random(N, 30, 0.3, format="csr", dtype=np.float32, rng=np.random.default_rng(0))


def streamed(matrix, n_rows):
    return Counting(matrix).rows(n_rows)


@pytest.mark.parametrize("n_rows", [1, 7, 64, 999, 1000])
def test_what_is_computed_of_chunks_is_that_of_the_whole(matrix, n_rows):
    rng = np.random.default_rng(1)
    own, some = np.sort(rng.permutation(N)[:400]), rng.permutation(400)[:50]
    axes, codes = rng.random((12, 3)).astype(np.float32), rng.integers(0, 3, 400)
    dense = matrix.toarray()[own][:, ::-1][:, :12]
    for rows in (streamed(matrix, n_rows), InMemory(matrix, n_rows)):
        found = rows.select(own).map(lambda chunk, _: sparse.csr_matrix(chunk[:, ::-1][:, :12]), 12)
        assert found.shape == (400, 12)
        assert np.array_equal(found.whole().toarray(), dense)
        assert np.array_equal(found.take(some).toarray(), dense[some])
        assert np.array_equal(found.dot(axes), found.whole() @ axes)
        assert np.array_equal(found.survey.sizes, (dense > 0).sum(1))
        assert found.survey.largest == dense.max()
        np.testing.assert_allclose(found.mean, dense.mean(0), rtol=1e-6)
        expected = [dense[codes == code].mean(0) for code in range(3)]
        np.testing.assert_allclose(found.means_of(codes, 4), [*expected, np.zeros(12)], rtol=1e-6)
        assert np.array_equal(found.select(np.arange(400)).whole().toarray(), dense)
        assert found.select(np.arange(0)).whole().shape == (0, 12)


def test_functions_of_rows_learn_which_rows_they_are(matrix):
    own = np.arange(3, N, 5)
    for rows in (streamed(matrix, 64), InMemory(matrix, 64)):
        numbered = rows.map(lambda chunk, cells: sparse.csr_matrix(chunk.multiply(cells[:, None]).tocsr()))
        expected = matrix.toarray()[own] * own[:, None]
        np.testing.assert_allclose(numbered.select(own).whole().toarray(), expected, rtol=1e-6)


def test_chunks_without_wanted_rows_are_not_read(matrix):
    source = Counting(matrix)
    rows = source.rows(100).select(np.arange(250, 310))
    assert rows.whole().shape == (60, 30)
    assert source.n_read == 200


def test_stored_zeros_and_repeated_entries_do_not_count():
    twice = sparse.csr_matrix(
        (np.array([1.0, 2.0, 0.0], dtype=np.float32), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 3)
    )
    rows = Streamed((2, 3), (0, 1, 2), lambda start, stop: twice[start:stop], "X")
    assert rows.survey.sizes.tolist() == [1, 0]
    assert rows.whole().toarray().tolist() == [[0, 3, 0], [0, 0, 0]]


def test_what_changes_between_two_passes_is_told(matrix):
    source = Counting(matrix)
    rows = source.rows(100)
    assert rows.survey.sizes.sum() == matrix.nnz
    source.matrix = sparse.csr_matrix(matrix.shape, dtype=np.float32)  # as a zarr store that vanished reads
    with pytest.raises(OSError, match="X changed while it was read: keep its file as it is"):
        rows.whole()


def stored(matrix, tmp_path, kind):
    """An AnnData of which X, and a layer, are elsewhere."""
    adata = ad.AnnData(matrix, layers={"log": matrix})
    if "dense" in kind:
        adata.X = adata.layers["log"] = matrix.toarray()
    if kind.startswith("dask"):
        n = int(kind.split()[1])
        blocks = da.from_array(matrix.toarray(), chunks=(-(-N // n), 11 if "columns" in kind else -1))
        adata.X = adata.layers["log"] = blocks if "dense" in kind else blocks.map_blocks(sparse.csr_matrix)
        return adata
    path = tmp_path / ("cells.zarr" if "zarr" in kind else "cells.h5ad")
    adata.write_zarr(path) if "zarr" in kind else adata.write_h5ad(path)
    return ad.experimental.read_lazy(path) if "lazy" in kind else ad.read_h5ad(path, backed="r")


KINDS = [
    *("h5ad sparse", "h5ad dense", "lazy h5ad sparse", "lazy h5ad dense", "lazy zarr sparse", "lazy zarr dense"),
    *("dask 1 dense", "dask 2 dense", "dask 7 dense", "dask 7 sparse", "dask 7 sparse columns", "dask 7 dense columns"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_rows(matrix, tmp_path, kind):
    adata = stored(matrix, tmp_path, kind)
    for layer in (None, "log"):
        rows = expression_rows(adata, layer, SMALL)
        if layer is None or "h5ad" not in kind or "lazy" in kind:  # layers of a backed object are in memory
            assert isinstance(rows, Streamed)
        assert (rows.whole() != matrix).nnz == 0
        sizes = [chunk.shape[0] for _, chunk in rows.chunks()]
        assert sum(sizes) == N
    widest = max(chunk.nnz if kind == "h5ad sparse" else chunk.shape[0] * 30 for _, chunk in rows.chunks())
    blocks = 30 * -(-N // int(kind.split()[1])) if kind.startswith("dask") else 0
    if "lazy" not in kind and layer is None:
        assert widest <= max(2000, blocks)


def test_small_blocks_of_dask_are_read_together_and_large_ones_once(matrix):
    adata = ad.AnnData(da.from_array(matrix.toarray(), chunks=((10, 10, 10, 500, 5, 465), -1)))
    assert expression_rows(adata, None, ChunkSize(most_values=30 * 30)).starts == (0, 30, 530, 535, 1000)
    assert expression_rows(adata, None).starts == (0, 1000)


def test_rows_that_differ_much_are_read_by_their_values(tmp_path):
    sizes = np.array([1, 1, 1, 30, 30, 1, 1, 25, 0, 0])
    indices = np.concatenate([np.arange(n) for n in sizes])
    x = sparse.csr_matrix((np.ones(sizes.sum(), np.float32), indices, np.append(0, sizes.cumsum())), shape=(10, 30))
    ad.AnnData(x).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    rows = expression_rows(backed, None, ChunkSize(most_values=28))
    assert all(chunk.nnz <= 28 or len(own) == 1 for own, chunk in rows.chunks())
    assert (rows.whole() != x).nnz == 0


def test_dask_arrays_of_unknown_chunks_are_refused(matrix):
    x = da.from_array(matrix.toarray(), chunks=(100, -1))
    adata = ad.AnnData(matrix)
    adata._X = x[x.sum(axis=1) >= 0]
    with pytest.raises(ValueError, match=r"Dask array of unknown chunks.*compute_chunk_sizes\(\)"):
        expression_rows(adata, None)


def test_arrays_of_other_numbers_are_refused():
    adata = ad.AnnData(da.from_array(np.ones((4, 3), dtype=complex), chunks=2))
    with pytest.raises(TypeError, match="X must hold real numbers, found dtype complex128"):
        expression_rows(adata, None)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_file_that_vanished_is_told(matrix, tmp_path, suffix, kind):
    adata = stored(matrix, tmp_path, f"lazy {suffix} {kind}")
    rows = expression_rows(adata, None, SMALL)
    rows.survey  # noqa: B018
    path = tmp_path / f"cells.{suffix}"
    path.unlink() if suffix == "h5ad" else shutil.rmtree(path)
    with pytest.raises(
        OSError, match="X cannot be read .*look whether its file is still there|X changed while it was read"
    ):
        rows.whole()


def test_a_closed_file_that_vanished_is_told(matrix, tmp_path):
    adata = stored(matrix, tmp_path, "h5ad sparse")
    adata.file.close()
    (tmp_path / "cells.h5ad").unlink()
    with pytest.raises(OSError, match="X cannot be read .*: look whether its file is still there, and open it again"):
        expression_rows(adata, None)


def test_the_values_of_a_slide_are_recognised_and_converted_in_chunks(make_slides):
    slides = make_slides(n_cells=400)
    x, labels = sparse.csr_matrix(slides.X), pd.Categorical(slides.obs["slide"])
    counts = sparse.csr_matrix(slides.layers["counts"])
    mixed = sparse.csr_matrix(sparse.vstack([x[:400], counts[400:800], x[800:]]))
    target = Target.of_most([x[:400]], [])
    with pytest.warns(UserWarning, match="slide 'b' looks like raw counts"):
        whole = on_one_scale(InMemory(mixed), labels, target, raw=False)
    source = Counting(mixed)
    with pytest.warns(UserWarning, match="slide 'b' looks like raw counts"):
        found = on_one_scale(source.rows(50), labels, target, raw=False)
    for (_, chunk), start in zip(found.chunks(), range(0, 1200, 50), strict=True):
        assert (chunk != whole.whole()[start : start + 50]).nnz == 0


@pytest.mark.parametrize("two_slides", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_stages_of_a_model_hold_no_more_than_a_chunk(model, make_slides, two_slides):
    """Of 12,000 cells per slide, the samples that stages take are parts of chunks."""
    names = ("d", "e") if two_slides else ("d",)
    slides = make_slides(names, n_cells=12_000, seed=7)
    x = sparse.csr_matrix(slides.X.astype(np.float32))
    x.sort_indices()
    labels, genes = pd.Categorical(slides.obs["slide"]), slides.var_names
    model = replace(model, encoder=replace(model.encoder, averaging=replace(model.encoder.averaging, n_neighbors=2)))
    rows = Counting(x).rows(1500)
    features, expected = model.features(rows, genes, labels), model.features(x, genes, labels)
    for one, other in zip(features, expected, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(model.encoder.slide_pcs(rows, genes, labels), model.encoder.slide_pcs(x, genes, labels))
    own = np.flatnonzero(labels == names[-1])
    embedding, known = features.embedding[own], model.resemblance.known
    signs = [known.signs(as_rows(one).select(own), embedding) for one in (rows, x)]
    np.testing.assert_allclose(signs[0].cells, signs[1].cells, rtol=1e-12)
    assert signs[0].agreement == pytest.approx(signs[1].agreement, rel=1e-12)
    assert signs[0].profile == signs[1].profile
