from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar._anndata import get_coords, get_slides, record
from ipar._expression import get_expression, warn_empty_cells

N = 360


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.toarray(),
        lambda x: x.toarray(order="F"),
        sparse.csc_matrix,
        sparse.csr_array,
        lambda x: x.astype(np.float64),
        lambda x: x.toarray().astype(np.float64),
    ],
    ids=["csr", "dense", "fortran", "csc", "csr_array", "float64", "dense float64"],
)
def test_every_matrix_kind_reads_as_the_same_csr(slides, convert):
    expected = slides.X.toarray()
    slides.X = convert(slides.X)
    found = get_expression(slides)
    assert isinstance(found.matrix, sparse.csr_matrix)
    assert found.matrix.dtype == np.float32
    assert np.array_equal(found.matrix.toarray(), expected)
    assert found.genes.tolist() == slides.var_names.tolist()


def test_layer_and_gene_mask_are_read(slides):
    slides.layers["lognorm"], slides.X = slides.X, None
    chosen = np.arange(60) % 3 == 0
    slides.var["wanted"] = chosen
    found = get_expression(slides, layer="lognorm", mask_var="wanted")
    assert np.array_equal(found.matrix.toarray(), slides.layers["lognorm"].toarray()[:, chosen])
    assert found.genes.tolist() == [f"gene{i}" for i in range(0, 60, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.int64])
@pytest.mark.parametrize("where", ["X", "layer"])
def test_counts_are_normalised_with_a_warning(slides, dtype, where):
    expected = slides.X.toarray()
    counts = slides.layers["counts"].toarray()
    counts = np.minimum(counts, np.iinfo(np.uint8).max) if dtype == np.uint8 else counts
    slides.layers["counts"] = sparse.csr_matrix(counts.astype(dtype))
    if where == "X":
        slides.X = slides.layers["counts"]
    with pytest.warns(UserWarning, match=r"raw counts.*sc\.pp\.normalize_total.*target_sum=10000.*sc\.pp\.log1p"):
        found = get_expression(slides, layer=None if where == "X" else "counts")
    total = counts.sum(1, keepdims=True)
    np.testing.assert_allclose(found.matrix.toarray(), np.log1p(counts * (1e4 / total)), rtol=1e-5)
    if dtype != np.uint8:
        np.testing.assert_allclose(found.matrix.toarray(), expected, rtol=1e-5)
    assert np.array_equal(slides.layers["counts"].toarray(), counts)


def test_counts_are_normalised_before_genes_are_chosen(slides):
    slides.var["few"] = np.arange(60) < 5
    expected = slides.X[:, :5].toarray()
    slides.X = slides.layers["counts"]
    with pytest.warns(UserWarning, match="raw counts"):
        found = get_expression(slides, mask_var="few")
    np.testing.assert_allclose(found.matrix.toarray(), expected, rtol=1e-5)


def test_small_counts_of_one_kind_are_counts_and_binary_data_are_not(slides):
    slides.X = sparse.csr_matrix((slides.layers["counts"].toarray() > 20).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get_expression(slides).matrix.max() == 1
    slides.X = 2 * slides.X
    with pytest.warns(UserWarning, match="raw counts"):
        get_expression(slides)


@pytest.mark.filterwarnings("error")
def test_nothing_at_all_is_not_counts(slides):
    slides.X = sparse.csr_matrix(slides.shape, dtype=np.float32)
    assert get_expression(slides).matrix.nnz == 0


def test_names_that_are_missing_are_listed(slides):
    with pytest.raises(KeyError, match=r"no 'raw', found \['counts'\]: name one"):
        get_expression(slides, layer="raw")
    with pytest.raises(KeyError, match="no column 'hvg': name a boolean column as mask_var"):
        get_expression(slides, mask_var="hvg")


def test_lazy_and_wordy_matrices_are_refused_with_a_remedy(slides, tmp_path):
    slides.X = slides.X.toarray()
    slides.write_h5ad(tmp_path / "dense.h5ad")
    backed = ad.read_h5ad(tmp_path / "dense.h5ad", backed="r")
    with pytest.raises(TypeError, match=r"found h5py's Dataset: call adata\.to_memory\(\)"):
        get_expression(backed)
    backed.file.close()
    slides.X = slides.X.astype(str).astype(object)
    with pytest.raises(TypeError, match="X must hold real numbers, found dtype object"):
        get_expression(slides)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((N, 60), dtype=complex), "real numbers, found dtype complex128"),
        (np.ma.masked_array(np.ones((N, 60)), mask=True), r"found numpy's MaskedArray: fill .*\.filled"),
    ],
    ids=["complex", "masked"],
)
def test_other_numbers_are_refused(slides, x, message):
    slides.layers["other"] = np.ones((N, slides.n_vars))
    slides.layers._data["other"] = x  # AnnData itself refuses some of these
    with pytest.raises(TypeError, match=message):
        get_expression(slides, layer="other")


def test_stored_zeros_and_repeated_entries_are_the_same_values(slides):
    plain = sparse.csr_matrix(slides.X)
    rows, columns = plain.nonzero()
    halves = np.concatenate([plain.data / 2, plain.data / 2, np.zeros(50)])
    rng = np.random.default_rng(0)
    ends = (
        np.concatenate([rows, rows, rng.integers(0, slides.n_obs, 50)]),
        np.concatenate([columns, columns, rng.integers(0, slides.n_vars, 50)]),
    )
    order = np.lexsort((rng.random(len(halves)), ends[0]))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(ends[0], minlength=slides.n_obs))])
    slides.X = sparse.csr_matrix((halves[order].astype(np.float32), ends[1][order], indptr), shape=plain.shape)
    before = slides.X.data.copy()
    found = get_expression(slides).matrix
    np.testing.assert_allclose(found.toarray(), plain.toarray(), rtol=1e-6)
    assert found.nnz == plain.nnz
    assert found.has_canonical_format
    np.testing.assert_array_equal(slides.X.data, before)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (lambda n: np.where(np.arange(n) < 5, "True", "False"), TypeError, "True or False for every gene, found dtype"),
        (lambda n: np.arange(n, dtype=float), TypeError, "found dtype float64"),
        (lambda n: pd.array([True, None] + [False] * (n - 2), dtype="boolean"), TypeError, "found 1 missing values"),
        (lambda n: np.zeros(n, dtype=bool), ValueError, "True for two genes or more, found 0: choose genes"),
    ],
    ids=["words", "ranks", "missing", "none"],
)
def test_masks_of_genes_are_true_or_false(slides, column, error, message):
    slides.var["chosen"] = column(slides.n_vars)
    with pytest.raises(error, match=message):
        get_expression(slides, mask_var="chosen")


def test_a_backed_sparse_matrix_is_read(slides, tmp_path):
    slides.write_h5ad(tmp_path / "sparse.h5ad")
    backed = ad.read_h5ad(tmp_path / "sparse.h5ad", backed="r")
    assert np.array_equal(get_expression(backed).matrix.toarray(), slides.X.toarray())
    backed.file.close()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_cells_without_counts_are_counted(slides, kind):
    x = slides.X.toarray()
    x[[3, 8, 200]] = 0
    slides.X = x if kind == "dense" else sparse.csr_matrix(x)
    with pytest.warns(UserWarning, match=r"3 of 360 cells have no counts.*sc\.pp\.filter_cells"):
        warn_empty_cells(get_expression(slides).matrix)


def test_zeros_that_are_stored_are_no_counts(slides):
    slides.X.data[slides.X.indptr[3] : slides.X.indptr[4]] = 0
    stored = slides.X.nnz
    with pytest.warns(UserWarning, match="1 of 360 cells have no counts"):
        warn_empty_cells(get_expression(slides).matrix)
    assert slides.X.nnz == stored


def test_slides_are_read_without_unused_categories(slides):
    part = slides[slides.obs["slide"] != "b"]
    found = get_slides(part, "slide", minimum=2)
    assert list(found.categories) == ["a", "c"]
    assert list(found) == ["a"] * 120 + ["c"] * 120
    assert list(get_slides(slides, None).categories) == ["all"]
    with pytest.raises(ValueError, match="At least 3 slides are needed, found 2 in obs\\['slide'\\]"):
        get_slides(part, "slide", minimum=3)


def test_coordinates_are_centred_before_precision_is_lost(slides):
    fine = np.random.default_rng(0).random((N, 2))
    slides.obsm["spatial"] = fine + 1e8  # whole micrometres at float32
    found = get_coords(slides)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fine - fine.mean(0), atol=1e-6)


@pytest.mark.parametrize("convert", [pd.DataFrame, lambda x: x.round().astype(int), lambda x: x.astype(np.float32)])
def test_coordinates_of_any_kind_are_read(slides, convert):
    raw = slides.obsm["spatial"]
    value = convert(raw)
    if isinstance(value, pd.DataFrame):
        value.index = slides.obs_names
    slides.obsm["xy"] = value
    np.testing.assert_allclose(get_coords(slides, "xy"), raw - raw.mean(0), atol=1.0)


@pytest.mark.parametrize("shape", [(N, 1), (N, 3), (N, 2, 1)])
def test_coordinates_of_another_shape_are_refused(slides, shape):
    slides.obsm["spatial"] = np.zeros(shape)
    with pytest.raises(ValueError, match="must have shape .*: keep the columns of coordinates"):
        get_coords(slides)


def test_the_record_is_kept():
    adata = ad.AnnData(np.ones((4, 2), dtype=np.float32))
    record(adata)["one"] = 1
    record(adata)["two"] = 2
    assert adata.uns["ipar"] == {"one": 1, "two": 2}
