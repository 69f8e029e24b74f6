from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

from ipar.pp import candidates

DISTANCES, CONNECTIVITIES = "ipar_candidates_distances", "ipar_candidates_connectivities"
WRITTEN = {("obsp", DISTANCES), ("obsp", CONNECTIVITIES), ("uns", "ipar_candidates")}


@pytest.fixture
def embedded(train):
    """The training slides with an embedding and its record, without candidates."""
    del train.obsp[DISTANCES], train.obsp[CONNECTIVITIES], train.uns["ipar_candidates"]
    return train


def brute_force(h, slides, k):
    """Cosine neighbours by the definition, one cell at a time."""
    found = []
    for i in range(len(h)):
        others = np.flatnonzero((slides == slides[i]) & (np.arange(len(h)) != i))
        cosine = h[others] @ h[i] / np.linalg.norm(h[others], axis=1) / np.linalg.norm(h[i])
        found.append(set(others[np.argsort(-cosine)[:k]].tolist()))
    return found


def neighbours(matrix):
    return [set(matrix.indices[a:b].tolist()) for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]


def test_nothing_else_is_touched(embedded, unchanged, global_random_state):
    changes = unchanged(embedded)
    assert candidates(embedded, 30) is None
    assert changes() == WRITTEN


def test_copy_leaves_the_original_alone(embedded, unchanged):
    changes = unchanged(embedded)
    changed = candidates(embedded, 30, copy=True)
    assert changes() == set()
    candidates(embedded, 30)
    assert (changed.obsp[DISTANCES] != embedded.obsp[DISTANCES]).nnz == 0


def test_candidates_are_the_nearest_of_the_own_slide(embedded):
    candidates(embedded, 30)
    h, slides = embedded.obsm["X_ipar_embed"].astype(float), embedded.obs["slide"].to_numpy()
    distances = embedded.obsp[DISTANCES]
    assert neighbours(distances) == brute_force(h, slides, 30)
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    rows, columns = distances.nonzero()
    np.testing.assert_allclose(distances[rows, columns].A1, 1 - (unit[rows] * unit[columns]).sum(1), atol=1e-5)


@pytest.mark.parametrize("key", [DISTANCES, CONNECTIVITIES])
def test_graphs_are_in_the_form_of_the_ecosystem(embedded, key):
    candidates(embedded, 30)
    graph = embedded.obsp[key]
    assert isinstance(graph, sparse.csr_matrix)
    assert graph.dtype == np.float32
    assert graph.has_canonical_format or graph.copy().has_canonical_format
    assert graph.diagonal().max() == 0
    assert (graph.data > 0).all()
    slides = embedded.obs["slide"].to_numpy()
    rows, columns = graph.nonzero()
    assert (slides[rows] == slides[columns]).all()


def test_every_cell_has_exactly_k(embedded):
    for k in (1, 30, 119):
        candidates(embedded, k)
        assert (np.diff(embedded.obsp[DISTANCES].indptr) == k).all()


@pytest.mark.parametrize("k", [120, 1000])
def test_a_slide_smaller_than_k_gives_all_others(embedded, k):
    candidates(embedded, k)
    expected = sparse.block_diag([np.ones((120, 120)) - np.eye(120)] * 3).toarray() > 0
    assert np.array_equal(embedded.obsp[DISTANCES].toarray() > 0, expected)


def test_connectivities_are_symmetric_weights_on_both_directions(embedded):
    candidates(embedded, 30)
    distances, weights = embedded.obsp[DISTANCES].toarray(), embedded.obsp[CONNECTIVITIES].toarray()
    assert np.array_equal(weights, weights.T)
    assert np.array_equal(weights > 0, (distances > 0) | (distances.T > 0))
    assert weights.max() <= 1
    sigma = np.array([np.median(row[row > 0]) for row in distances.astype(float)])
    i, j = 5, np.flatnonzero(distances[5])[7]
    assert weights[i, j] == pytest.approx(np.exp(-(distances[i, j] ** 2) / (sigma[i] * sigma[j])), rel=1e-4)


def test_the_record_is_scanpys(embedded):
    candidates(embedded, 30, random_state=4)
    record = embedded.uns["ipar_candidates"]
    assert record["distances_key"] == DISTANCES
    assert record["connectivities_key"] == CONNECTIVITIES
    assert record["params"] == {
        "method": "ipar",
        "n_neighbors": 30,
        "metric": "cosine",
        "use_rep": "X_ipar_embed",
        "random_state": 4,
        "library_key": "slide",
    }
    neighbors = sc.Neighbors(embedded, neighbors_key="ipar_candidates")
    assert neighbors.n_neighbors == 30
    assert (neighbors.connectivities != embedded.obsp[CONNECTIVITIES]).nnz == 0


def test_scanpy_draws_a_umap_of_them(embedded):
    candidates(embedded, 15)
    sc.tl.umap(embedded, neighbors_key="ipar_candidates", maxiter=5)
    assert np.isfinite(embedded.obsm["X_umap"]).all()


def test_scanpy_clusters_them(embedded):
    candidates(embedded, 15)
    sc.tl.leiden(embedded, neighbors_key="ipar_candidates", flavor="igraph", n_iterations=2)
    crossing = embedded.obs.groupby("leiden", observed=True)["slide"].nunique()
    assert (crossing == 1).all()  # no edge joins two slides


def test_graphs_survive_a_round_trip(embedded, tmp_path):
    candidates(embedded, 10, key_added="near")
    embedded.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad")
    for key in ("near_distances", "near_connectivities"):
        assert (back.obsp[key] != embedded.obsp[key]).nnz == 0
    assert dict(back.uns["near"]["params"]) == embedded.uns["near"]["params"]


@pytest.mark.parametrize(
    "transformer",
    [
        KNeighborsTransformer(n_neighbors=30, metric="cosine"),
        KNeighborsTransformer(n_neighbors=60, metric="cosine", algorithm="brute"),
    ],
    ids=["as many as asked", "more than asked"],
)
def test_any_transformer_is_taken(embedded, transformer):
    candidates(embedded, 30)
    exact = neighbours(embedded.obsp[DISTANCES])
    candidates(embedded, 30, transformer=transformer)
    found = neighbours(embedded.obsp[DISTANCES])
    assert found == exact
    assert embedded.uns["ipar_candidates"]["params"]["method"] == type(transformer).__name__


def test_the_slide_column_is_that_of_the_embedding_unless_named(embedded):
    candidates(embedded, 200)
    assert (np.diff(embedded.obsp[DISTANCES].indptr) == 119).all()
    embedded.obs["all"] = embedded.obs["slide"].cat.rename_categories({"b": "ab"}).astype(str)
    embedded.obs["all"] = np.where(embedded.obs["slide"] == "c", "c", "ab")
    embedded.obs["all"] = embedded.obs["all"].astype("category")
    candidates(embedded, 200, library_key="all")
    assert sorted(set(np.diff(embedded.obsp[DISTANCES].indptr))) == [119, 200]
    del embedded.uns["ipar_embed"]
    candidates(embedded, 200)  # nothing tells slides apart
    assert (np.diff(embedded.obsp[DISTANCES].indptr) == 200).all()
    assert "library_key" not in embedded.uns["ipar_candidates"]["params"]


def test_another_representation_and_metric(embedded):
    candidates(embedded, 5, use_rep="X_other", metric="euclidean", key_added="other")
    x, own = embedded.obsm["X_other"], np.flatnonzero(embedded.obs["slide"] == "b")
    gaps = np.linalg.norm(x[own, None] - x[None, own], axis=-1)
    nearest = own[np.argsort(gaps, axis=1)[:, 1:6]]
    found = neighbours(embedded.obsp["other_distances"])
    assert [found[i] for i in own] == [set(row.tolist()) for row in nearest]


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_a_view_is_taken_and_its_parent_left_alone(embedded, unchanged):
    changes = unchanged(embedded)
    view = embedded[embedded.obs["slide"] != "a"]
    candidates(view, 10)
    assert view.obsp[DISTANCES].nnz == 2400
    assert changes() == set()


@pytest.mark.parametrize(
    ("spoil", "options", "error", "remedy"),
    [
        (lambda a: a.obsm.pop("X_ipar_embed"), {}, KeyError, r"run ipar\.pp\.embed\(adata, library_key=\.\.\.\) first"),
        (lambda a: None, {"use_rep": "X_none"}, KeyError, "no 'X_none'.*name an embedding as use_rep"),
        (lambda a: None, {"n_neighbors": 0}, ValueError, "n_neighbors must be at least 1, found 0"),
        (lambda a: a.obsm["X_ipar_embed"].fill(np.nan), {}, ValueError, "NaN or infinite.*make the embedding again"),
        (lambda a: None, {"library_key": "batch"}, KeyError, "no column 'batch'.*library_key"),
    ],
)
def test_errors_name_the_remedy_and_nothing_is_lost(embedded, unchanged, spoil, options, error, remedy):
    spoil(embedded)
    changes = unchanged(embedded)
    with pytest.raises(error, match=remedy):
        candidates(embedded, **options)
    assert changes() == set()
