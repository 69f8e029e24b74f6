from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import ipar
from ipar.pp import pseudo_spots

WRITTEN = {("layers", "pseudo_spots"), ("uns", "pseudo_spots")}


@pytest.fixture
def typed():
    """Cells of three types on each of two slides, with true rates."""
    rng = np.random.default_rng(0)
    rates = rng.lognormal(2.0, 1.0, size=(3, 40))
    kind = np.tile(np.repeat([0, 1, 2], 100), 2)
    counts = rng.poisson(rates[kind]).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts)))
    adata.obs["slide"] = pd.Categorical(np.repeat(["a", "b"], 300))
    adata.obs["kind"] = kind
    adata.layers["first"] = adata.X.copy()
    adata.uns["rates"] = rates
    return adata


def noise(adata, layer):
    """Mean squared error in units of a Poisson count's."""
    rates = adata.uns["rates"][adata.obs["kind"]]
    return (((np.expm1(adata.layers[layer].toarray().astype(float)) - rates) ** 2) / rates).mean()


def test_nothing_else_is_touched(typed, unchanged, global_random_state):
    changes = unchanged(typed)
    assert pseudo_spots(typed) is None
    assert changes() == WRITTEN
    assert typed.uns["pseudo_spots"] == {"params": {"n_cells": 5}}


def test_a_copy_has_the_same(typed, unchanged):
    changes = unchanged(typed)
    made = pseudo_spots(typed, copy=True)
    assert changes() == set()
    pseudo_spots(typed)
    assert (made.layers["pseudo_spots"] != typed.layers["pseudo_spots"]).nnz == 0


def test_more_cells_have_less_noise_and_the_level_of_their_type(typed):
    pseudo_spots(typed)
    pseudo_spots(typed, 15, key_added="fifteen")
    assert noise(typed, "first") == pytest.approx(1, abs=0.1)
    assert noise(typed, "first") > 2 * noise(typed, "pseudo_spots") > 3 * noise(typed, "fifteen")
    for layer in ("pseudo_spots", "fifteen"):
        x = np.expm1(typed.layers[layer].toarray())
        means = [x[typed.obs["kind"] == k].mean(0) for k in range(3)]
        np.testing.assert_allclose(means, typed.uns["rates"], rtol=0.2)


def test_samples_do_not_mix(typed):
    pseudo_spots(typed, library_key="slide")
    alone = typed[typed.obs["slide"] == "b"].copy()
    pseudo_spots(alone)
    own = typed.layers["pseudo_spots"][300:]
    np.testing.assert_allclose(own.toarray(), alone.layers["pseudo_spots"].toarray(), atol=1e-5)
    assert typed.uns["pseudo_spots"]["params"]["library_key"] == "slide"


def test_a_layer_is_read_and_not_overwritten(typed):
    typed.X = None
    pseudo_spots(typed, layer="first")
    assert typed.uns["pseudo_spots"]["params"] == {"n_cells": 5, "layer": "first"}
    with pytest.raises(ValueError, match="'first', the layer that is read: name another"):
        pseudo_spots(typed, layer="first", key_added="first")


def test_one_cell_is_no_spot(typed):
    with pytest.raises(ValueError, match="at least 2, found 1: a cell is averaged with others"):
        pseudo_spots(typed, 1)


def test_coordinates_are_not_read(query):
    expected = pseudo_spots(query, copy=True).layers["pseudo_spots"]
    query.obsm["spatial"] = np.full_like(query.obsm["spatial"], np.nan)
    pseudo_spots(query)
    assert (expected != query.layers["pseudo_spots"]).nnz == 0


def test_cells_are_placed_by_the_layer(query, model):
    pseudo_spots(query)
    plain = ipar.tl.predict_coords(query, model, copy=True, progress=False)
    pooled = ipar.tl.predict_coords(query, model, layer="pseudo_spots", copy=True, progress=False)
    assert pooled.obsm["X_ipar"].shape == (query.n_obs, 2)
    assert not np.allclose(plain.obsm["X_ipar"], pooled.obsm["X_ipar"])


def test_unusable_expression(bad_query):
    with pytest.raises(bad_query.error, match=bad_query.remedy):
        pseudo_spots(bad_query.adata, library_key="slide")
