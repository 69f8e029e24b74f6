from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from ipar.baselines import pca_knn_regression, pca_umap, permuted
from ipar.metrics import knn_hit, luna_spearman


def unit(coords):
    centred = coords - coords.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


def test_permuted_deals_out_the_same_positions(tissue):
    before = tissue.truth.copy()
    dealt = permuted(tissue.truth, random_state=3)
    np.testing.assert_array_equal(np.sort(dealt, axis=0), np.sort(tissue.truth, axis=0))
    assert sorted(map(tuple, dealt)) == sorted(map(tuple, tissue.truth))  # whole rows, not columns by themselves
    np.testing.assert_array_equal(tissue.truth, before)
    np.testing.assert_array_equal(dealt, permuted(tissue.truth, random_state=np.random.default_rng(3)))
    assert abs(luna_spearman(tissue.truth, dealt)) < 0.2


def test_umap_keeps_the_neighbours_of_the_slide(tissue):
    layout = pca_umap(tissue.query)
    assert layout.shape == (len(tissue.query), 2)
    assert layout.dtype == np.float32
    k = 10
    assert knn_hit(tissue.truth, layout, n_neighbors=k) > 3 * k / (len(layout) - 1)


def test_umap_is_seeded_and_leaves_global_state_alone(tissue):
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    some = tissue.query[:60]
    seed = 2**64 - 1
    np.testing.assert_array_equal(
        pca_umap(some, random_state=seed), pca_umap(sparse.csr_matrix(some), random_state=seed)
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_umap_of_very_few_cells(tissue):
    assert np.isfinite(pca_umap(tissue.query[:5])).all()


def test_knn_of_one_neighbour_finds_a_cell_itself(tissue):
    rows = tissue.slides == "s1"
    placed = pca_knn_regression(tissue.x, tissue.coords, tissue.slides, tissue.x[rows], n_neighbors=1, reference="s1")
    np.testing.assert_allclose(placed, unit(tissue.coords[rows]), atol=1e-5)


def test_knn_agrees_with_brute_force_in_gene_space(tissue):
    # all components kept: distances between components are distances between genes centred by slide
    n_genes, k = tissue.x.shape[1], 7
    placed = pca_knn_regression(
        tissue.x, tissue.coords, tissue.slides, tissue.query, n_components=n_genes, n_neighbors=k, reference="s0"
    )
    rows = tissue.slides == "s0"
    known = tissue.x[rows] - tissue.x[rows].mean(axis=0)
    nearest = cdist(tissue.query - tissue.query.mean(axis=0), known).argsort(axis=1)[:, :k]
    np.testing.assert_allclose(placed, unit(tissue.coords[rows])[nearest].mean(axis=1), atol=1e-4)


def test_knn_ignores_what_a_slide_shares(tissue):
    shift = np.random.default_rng(0).normal(size=tissue.x.shape[1]).astype(np.float32)
    x = tissue.x + np.where((tissue.slides == "s2")[:, None], shift, 0)
    arguments = tissue.coords, tissue.slides
    expected = pca_knn_regression(tissue.x, *arguments, tissue.query)
    np.testing.assert_allclose(pca_knn_regression(x, *arguments, tissue.query - shift), expected, atol=1e-3)


def test_knn_chooses_a_slide_that_places_the_others(tissue):
    coords = tissue.coords.copy()
    rng = np.random.default_rng(0)
    for name in ("s0", "s2"):  # positions that have nothing to do with expression
        rows = np.flatnonzero(tissue.slides == name)
        coords[rows] = coords[rng.permutation(rows)]
    x = np.concatenate([tissue.x, tissue.query])  # a second good slide, on which the first proves itself
    coords, slides = np.concatenate([coords, tissue.truth]), np.append(tissue.slides, ["s3"] * len(tissue.truth))
    chosen = pca_knn_regression(x, coords, slides, tissue.query)
    good = [pca_knn_regression(x, coords, slides, tissue.query, reference=name) for name in ("s1", "s3")]
    assert any(np.allclose(chosen, layout) for layout in good)


def test_knn_places_an_unseen_slide(tissue):
    placed = pca_knn_regression(tissue.x, tissue.coords, tissue.slides, tissue.query)
    assert luna_spearman(tissue.truth, placed) > 0.8


def test_knn_with_one_slide_and_few_cells(tissue):
    rows = np.flatnonzero(tissue.slides == "s0")[:9]
    placed = pca_knn_regression(tissue.x[rows], tissue.coords[rows], tissue.slides[rows], tissue.query)
    np.testing.assert_allclose(placed, 0, atol=1e-5)  # all nine are averaged: the middle of the slide


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": np.ones((450, 3))}, "same genes"),
        ({"train_coords": np.ones((450, 3))}, r"shape \(450, 2\)"),
        ({"train_slides": np.array(["s0"])}, "one label per cell"),
        ({"query_x": np.full((9, 60), np.nan)}, "NaN"),
        ({"query_x": np.ones(60)}, "n_cells, n_genes"),
        ({"train_coords": np.full((450, 2), np.inf)}, "NaN or infinite"),
        ({"train_coords": np.ones((450, 2))}, "slide 's0' have the same position"),
        ({"reference": "s9"}, r"'s9'; pass one of \['s0', 's1', 's2'\]"),
    ],
)
def test_bad_input_is_named(tissue, change, message):
    arguments = {
        "train_x": tissue.x,
        "train_coords": tissue.coords,
        "train_slides": tissue.slides,
        "query_x": tissue.query,
    }
    with pytest.raises(ValueError, match=message):
        pca_knn_regression(**arguments | change)


def test_umap_and_permuted_name_bad_input():
    with pytest.raises(ValueError, match="at least four cells"):
        pca_umap(np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"n_cells, 2"):
        permuted(np.ones(4))
