"""Sparse matrices are checked before compiled code reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import ipar
from ipar._slots import check_sparse, size_of

KINDS = [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array]
BREAKS = {
    "index too large": lambda x: x.indices.__setitem__(3, 9999),
    "index negative": lambda x: x.indices.__setitem__(3, -1),
    "pointer too large": lambda x: x.indptr.__setitem__(3, 10**6),
    "pointer falls": lambda x: x.indptr.__setitem__(4, 0),
    "pointers too few": lambda x: setattr(x, "indptr", x.indptr[:-2]),
    "pointers start late": lambda x: x.indptr.__setitem__(0, 2),
    "indices too few": lambda x: setattr(x, "indices", x.indices[:-2]),
    "values too few": lambda x: setattr(x, "data", x.data[:-2]),
    "indices no integers": lambda x: setattr(x, "indices", x.indices.astype(float)),
    "indices in a table": lambda x: setattr(x, "indices", x.indices[None]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", BREAKS)
def test_broken_matrices_are_named(broken, kind):
    matrix = kind(sparse.random(30, 20, 0.3, format="csr", random_state=0))
    BREAKS[broken](matrix)
    with pytest.raises(ValueError, match=r"^layers\['raw'\] is a broken sparse matrix \(.*\): write it again"):
        check_sparse(matrix, "layers['raw']")


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
@settings(max_examples=50, deadline=None)
def test_whatever_passes_can_be_read(seed, kind):
    """Pointers and indices at random: what passes has the values that a loop reads."""
    rng = np.random.default_rng(seed)
    indptr = np.sort(rng.integers(0, 8, 5)) * (rng.random(5) < 0.95)
    indptr[0] *= rng.random() < 0.1
    n = int(indptr[-1])
    shape = (4, 3) if "csr" in kind.__name__ else (3, 4)
    matrix = kind(shape)
    matrix.indptr, matrix.indices, matrix.data = indptr, rng.integers(0, 3 + (seed % 7 == 0), n), np.ones(n)
    rises = indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    if not rises or (matrix.indices > 2).any():
        with pytest.raises(ValueError, match="broken"):
            check_sparse(matrix, "X")
        return
    check_sparse(matrix, "X")
    counted = np.zeros((4, 3))
    for row in range(4):
        for column in matrix.indices[indptr[row] : indptr[row + 1]]:
            counted[row, column] += 1
    assert np.array_equal(matrix.toarray(), counted if shape == (4, 3) else counted.T)


def test_coordinates_out_of_range_are_named():
    matrix = sparse.coo_matrix(sparse.random(30, 20, 0.3, random_state=0))
    check_sparse(matrix, "X")
    matrix.coords[0][3] = 99
    with pytest.raises(ValueError, match="X is a broken sparse matrix"):
        check_sparse(matrix, "X")


@pytest.mark.parametrize("broken", ["index too large", "pointer too large", "pointer falls"])
@pytest.mark.parametrize("where", ["X", "layers['other']", "a view"])
def test_predictions_and_fits_name_the_slot(slides, query, model, settings, broken, where):
    layer = None if where != "layers['other']" else "other"
    for adata in (slides, query):
        matrix = adata.X.copy()
        BREAKS[broken](matrix)
        if layer is None:
            adata.X = matrix
        else:
            adata.layers[layer] = matrix
    named = r"layers\['other'\]" if layer else "X"
    cells = query[:50] if where == "a view" else query
    with pytest.raises(ValueError, match=f"{named} is a broken sparse matrix"):
        ipar.tl.predict_coords(cells, model, layer=layer, progress=False)
    if where != "a view":
        with pytest.raises(ValueError, match=f"{named} is a broken sparse matrix"):
            ipar.tl.fit_ipalite(slides, "slide", layer=layer, **settings.fit)


@pytest.mark.parametrize("kind", ["not sorted", "double"])
def test_other_orders_of_entries_are_the_same_matrix(query, model, kind):
    """And the user's matrix stays as it was."""
    expected = ipar.tl.predict_coords(query, model, copy=True, progress=False).obsm["X_ipar"]
    matrix = query.X.copy()
    if kind == "not sorted":
        for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
            for values in (matrix.indices, matrix.data):
                values[start:end] = values[start:end][::-1]
        matrix.has_sorted_indices = False
    else:  # every value as two halves
        halves = np.repeat(matrix.data, 2) / 2
        matrix = sparse.csr_matrix((halves, np.repeat(matrix.indices, 2), matrix.indptr * 2), matrix.shape)
    query.X = matrix
    before = [values.copy() for values in (query.X.data, query.X.indices, query.X.indptr)]
    ipar.tl.predict_coords(query, model, progress=False)
    assert np.array_equal(query.obsm["X_ipar"], expected)
    now = (query.X.data, query.X.indices, query.X.indptr)
    assert all(np.array_equal(one, other) for one, other in zip(before, now, strict=True))


def test_sizes_are_about_those_of_files(train, tmp_path):
    train.write_h5ad(tmp_path / "train.h5ad")
    assert 0.7 < size_of(train) / (tmp_path / "train.h5ad").stat().st_size < 1.5
