"""What holds for every simulated tissue: form, depth, seeds, batch effects, files, errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from ipar import datasets

SLIDES = [datasets.layered_tissue, datasets.liver_lobules]
DISSOCIATED = [datasets.layered_tissue_dissociated, datasets.liver_lobules_dissociated]
MATCHED = list(zip(SLIDES, DISSOCIATED, strict=True))
DEFAULTS = ["layered", "liver", "layered_cells", "liver_cells"]

Simulator = Callable[..., ad.AnnData]


def dense_counts(adata: ad.AnnData) -> np.ndarray:
    return adata.layers["counts"].toarray().astype(float)


def pseudobulk(adata: ad.AnnData) -> np.ndarray:
    """Share of every gene in all molecules, so that depth cancels."""
    total = dense_counts(adata).sum(axis=0)
    return total / total.sum()


@pytest.mark.parametrize("simulate", SLIDES)
def test_slides_have_the_documented_form(simulate: Simulator):
    adata = simulate(11, 60, 80)
    assert adata.shape == (11 * 60, 80)
    assert adata.obs["slide"].dtype == "category"
    # in the order of their numbers: slide10 does not follow slide1
    assert list(adata.obs["slide"].cat.categories) == [f"slide{i}" for i in range(1, 12)]
    assert (adata.obs["slide"].value_counts() == 60).all()
    assert adata.obsm["spatial"].shape == (660, 2)
    assert np.isfinite(adata.obsm["spatial"]).all()
    assert adata.uns["source"]["simulated"] is True
    assert adata.uns["source"]["n_cells_per_slide"] == 60


@pytest.mark.parametrize("name", DEFAULTS)
def test_expression_is_sparse_counts_and_their_log(name: str, request: pytest.FixtureRequest):
    adata = request.getfixturevalue(name)
    counts = adata.layers["counts"]
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert sp.isspmatrix_csr(counts)
    assert np.issubdtype(counts.dtype, np.integer)
    assert counts.data.min() > 0
    # undone, the log-normalisation gives equal totals and the proportions of the counts
    linear = np.expm1(adata.X.toarray().astype(float))
    np.testing.assert_allclose(linear.sum(axis=1), 1e4, rtol=1e-4)
    raw = dense_counts(adata)
    np.testing.assert_allclose(linear / 1e4, raw / raw.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", DEFAULTS)
def test_names_are_unique_and_annotation_is_categorical(name: str, request: pytest.FixtureRequest):
    adata = request.getfixturevalue(name)
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert adata.obs["cell_type"].dtype == "category"
    assert not adata.obs.isna().any(axis=None)
    assert set(adata.obs["cell_type"].cat.categories) == set(adata.obs["cell_type"])


@pytest.mark.parametrize("name", ["layered", "liver"])
def test_depth_and_dropout_are_those_of_a_targeted_panel(name: str, request: pytest.FixtureRequest):
    counts = dense_counts(request.getfixturevalue(name))
    depth = counts.sum(axis=1)
    assert 2000 < np.median(depth) < 4000
    assert depth.min() > 0
    # log-normal: symmetric in the log, spread over about a decade
    low, middle, high = np.log(np.percentile(depth, [5, 50, 95]))
    assert 1.2 < high - low < 2.6
    assert abs((high - middle) - (middle - low)) < 0.4
    assert 0.35 < (counts == 0).mean() < 0.65


@pytest.mark.parametrize("name", ["layered", "liver"])
def test_counts_are_overdispersed_and_lost_beyond_poisson(name: str, request: pytest.FixtureRequest):
    adata = request.getfixturevalue(name)
    counts = dense_counts(adata)[(adata.obs["slide"] == "slide1").to_numpy()]
    mean = counts.mean(axis=0)
    expressed = mean > 1
    assert (counts.var(axis=0)[expressed] > 1.5 * mean[expressed]).mean() > 0.95
    # with the depth of each cell known, Poisson would leave this share of zeros; dropout leaves more
    depth = counts.sum(axis=1, keepdims=True) / counts.sum()
    poisson = np.exp(-depth * counts.sum(axis=0)).mean(axis=0)
    assert ((counts == 0).mean(axis=0) - poisson)[expressed].mean() > 0.05


@pytest.mark.parametrize("simulate", [*SLIDES, *DISSOCIATED])
def test_depth_follows_the_parameter(simulate: Simulator):
    shallow = simulate(n_cells=300, n_genes=100, median_counts=1000)
    deep = simulate(n_cells=300, n_genes=100, median_counts=4000)
    ratio = np.median(dense_counts(deep).sum(axis=1)) / np.median(dense_counts(shallow).sum(axis=1))
    assert 3.5 < ratio < 5


@pytest.mark.parametrize("simulate", [*SLIDES, *DISSOCIATED])
def test_same_seed_same_data_and_the_global_state_untouched(simulate: Simulator):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (simulate(n_cells=60, n_genes=60, random_state=seed) for seed in (5, 5, 6))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    key = "spatial" if "spatial" in first.obsm else "spatial_origin"
    assert np.array_equal(dense_counts(first), dense_counts(again))
    assert np.array_equal(first.obsm[key], again.obsm[key])
    assert first.obs.equals(again.obs)
    assert not np.array_equal(first.obsm[key], other.obsm[key])


@pytest.mark.parametrize("simulate", [*SLIDES, *DISSOCIATED])
def test_the_seed_that_a_generator_gave_can_be_used_again(simulate: Simulator):
    rng = np.random.default_rng(1)
    first, second = (simulate(n_cells=60, n_genes=60, random_state=rng) for _ in range(2))
    seeds = [adata.uns["source"]["random_state"] for adata in (first, second)]
    assert seeds[0] != seeds[1]
    for adata, seed in zip((first, second), seeds, strict=True):
        again = simulate(n_cells=60, n_genes=60, random_state=seed)
        assert np.array_equal(dense_counts(adata), dense_counts(again))


@pytest.mark.parametrize("simulate", SLIDES)
def test_a_slide_does_not_depend_on_how_many_there_are(simulate: Simulator):
    few, many = (simulate(n, 60, 60) for n in (1, 3))
    few, many = (a[a.obs["slide"] == "slide1"] for a in (few, many))
    rows = [np.column_stack([a.obsm["spatial"], dense_counts(a)]) for a in (few, many)]
    rows = [r[np.lexsort(r.T[:2])] for r in rows]
    assert np.array_equal(*rows)


@pytest.mark.parametrize("name", DEFAULTS)
def test_row_order_says_nothing(name: str, request: pytest.FixtureRequest):
    adata = request.getfixturevalue(name)
    coords = adata.obsm["spatial" if "spatial" in adata.obsm else "spatial_origin"]
    groups = [adata.obs["slide"] == s for s in adata.obs["slide"].cat.categories] if "slide" in adata.obs else [...]
    for group in groups:
        x = coords[np.asarray(group)] if group is not ... else coords
        step = np.linalg.norm(np.diff(x, axis=0), axis=1).mean()
        rng = np.random.default_rng(0)
        chance = [np.linalg.norm(np.diff(rng.permutation(x), axis=0), axis=1).mean() for _ in range(20)]
        assert abs(step - np.mean(chance)) < 5 * np.std(chance)
    codes = adata.obs["cell_type"].cat.codes.to_numpy()
    assert abs(np.corrcoef(codes, np.arange(len(codes)))[0, 1]) < 5 / np.sqrt(len(codes))
    if "slide" in adata.obs:
        same = (np.diff(adata.obs["slide"].cat.codes.to_numpy()) == 0).mean()
        assert abs(same - 1 / 3) < 0.06


@pytest.mark.parametrize("simulate", SLIDES)
def test_batch_effects_are_per_gene_and_can_be_switched_off(simulate: Simulator):
    spread = {}
    for strength in (0.0, 1.0):
        adata = simulate(2, 600, 100, batch_strength=strength)
        one, two = (pseudobulk(adata[adata.obs["slide"] == s]) for s in ("slide1", "slide2"))
        seen = (one > 1e-3) & (two > 1e-3)
        spread[strength] = np.log(one / two)[seen].std()
    # two slides: sd √2 · 0.25 of the shift and what the scale adds
    assert spread[0.0] < 0.15
    assert 0.25 < spread[1.0] < 0.6


@pytest.mark.parametrize(("simulate", "dissociate"), MATCHED)
def test_dissociated_cells_come_from_the_same_tissue(simulate: Simulator, dissociate: Simulator):
    slides, cells, stranger = simulate(), dissociate(), dissociate(random_state=1)
    assert set(cells.var_names) < set(slides.var_names)
    assert cells.n_vars == 450
    assert cells.var["programme"].astype(str).equals(slides.var["programme"].astype(str)[cells.var_names])

    def type_contrast(adata: ad.AnnData) -> np.ndarray:
        mean = adata.to_df().groupby(adata.obs["cell_type"], observed=True).mean()
        return (mean - mean.mean(axis=0)).to_numpy().ravel()

    def agreement(other: ad.AnnData) -> float:
        shared = slides.var_names.intersection(other.var_names)
        return float(np.corrcoef(type_contrast(slides[:, shared]), type_contrast(other[:, shared]))[0, 1])

    assert agreement(cells) > 0.7
    assert abs(agreement(stranger)) < 0.3


@pytest.mark.parametrize(("simulate", "dissociate"), MATCHED)
def test_dissociated_cells_are_another_technology(simulate: Simulator, dissociate: Simulator):
    slides, cells = simulate(), dissociate(missing_genes=0)
    assert "spatial" not in cells.obsm
    assert "slide" not in cells.obs
    assert cells.obsm["spatial_origin"].shape == (cells.n_obs, 2)
    assert np.median(dense_counts(cells).sum(axis=1)) > 1.5 * np.median(dense_counts(slides).sum(axis=1))
    assert (dense_counts(cells) == 0).mean() < (dense_counts(slides) == 0).mean() - 0.05
    seen = (pseudobulk(slides) > 1e-4) & (pseudobulk(cells) > 1e-4)
    capture = np.log(pseudobulk(cells) / pseudobulk(slides))[seen]
    assert 0.45 < capture.std() < 1.0
    # every slide agrees with the next far better than with the cells
    one, two = (pseudobulk(slides[slides.obs["slide"] == s])[seen] for s in ("slide1", "slide2"))
    both = (one > 0) & (two > 0)
    assert np.log(one[both] / two[both]).std() < 0.8 * capture.std()


def assert_same(back: ad.AnnData, adata: ad.AnnData) -> None:
    assert back.obs.equals(adata.obs)
    assert back.var.equals(adata.var)
    assert np.array_equal(back.X.toarray(), adata.X.toarray())
    assert np.array_equal(dense_counts(back), dense_counts(adata))
    for key, value in adata.obsm.items():
        assert np.array_equal(back.obsm[key], value)
    assert back.uns["source"] == adata.uns["source"]


@pytest.mark.parametrize("simulate", [*SLIDES, *DISSOCIATED])
def test_h5ad_gives_back_what_was_written(simulate: Simulator, tmp_path: Path):
    adata = simulate(n_cells=60, n_genes=60)
    adata.write_h5ad(tmp_path / "tissue.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "tissue.h5ad"), adata)


@pytest.mark.parametrize("simulate", [datasets.layered_tissue, datasets.liver_lobules_dissociated])
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
def test_zarr_gives_back_what_was_written(simulate: Simulator, tmp_path: Path):
    adata = simulate(n_cells=60, n_genes=60)
    adata.write_zarr(tmp_path / "tissue.zarr")
    assert_same(ad.read_zarr(tmp_path / "tissue.zarr"), adata)


@pytest.mark.parametrize("simulate", SLIDES)
def test_the_default_is_quick(simulate: Simulator):
    start = time.process_time()
    simulate()
    assert time.process_time() - start < 2


@pytest.mark.parametrize("simulate", SLIDES)
def test_many_cells_are_measured_in_pieces_alike(simulate: Simulator):
    adata = simulate(1, 9000, 50)
    depth = dense_counts(adata).sum(axis=1)
    assert adata.n_obs == 9000
    assert len(np.unique(adata.obsm["spatial"], axis=0)) == 9000
    assert abs(np.log(np.median(depth[:4500]) / np.median(depth[4500:]))) < 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_slides": 0}, ValueError, "n_slides must be at least 1, found 0"),
        ({"n_slides": 2.5}, TypeError, "n_slides must be an integer, found 2.5"),
        ({"batch_strength": -1}, ValueError, "batch_strength must be finite and not negative"),
        ({"batch_strength": np.nan}, ValueError, "batch_strength must be a finite number, found nan"),
    ],
)
@pytest.mark.parametrize("simulate", SLIDES)
def test_senseless_slides_are_refused(simulate: Simulator, arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        simulate(**arguments)


@pytest.mark.parametrize("share", [-0.1, 0.6, np.nan])
@pytest.mark.parametrize("simulate", DISSOCIATED)
def test_a_senseless_share_of_missing_genes_is_refused(simulate: Simulator, share: float):
    with pytest.raises(ValueError, match=r"missing_genes .*must (lie in \[0, 0.5\]|be a finite number)"):
        simulate(missing_genes=share)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_cells": 49}, ValueError, "n_cells must be at least 50, found 49"),
        ({"n_cells": "many"}, TypeError, "n_cells must be an integer, found 'many'"),
        ({"n_genes": 10}, ValueError, "n_genes must be at least 50, found 10"),
        ({"median_counts": 0}, ValueError, "median_counts must be finite and at least 100"),
        ({"median_counts": np.inf}, ValueError, "median_counts must be a finite number, found inf"),
        ({"random_state": -1}, ValueError, "random_state must not be negative"),
        ({"random_state": "zero"}, TypeError, "random_state must be an integer"),
    ],
)
@pytest.mark.parametrize("simulate", [*SLIDES, *DISSOCIATED])
def test_senseless_sizes_are_refused(simulate: Simulator, arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        simulate(**arguments)
