from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import lever_spots
from ipar._expression import Expression
from ipar.metrics import luna_spearman


def test_halves_share_no_cell_and_lose_none():
    taught, asked = lever_spots.halves(101, 3)
    assert sorted([*taught, *asked]) == list(range(101))
    assert len(taught) == 50
    assert not np.array_equal(np.sort(taught), np.sort(lever_spots.halves(101, 4)[0]))


def test_a_spot_holds_the_mean_of_its_cells_where_they_lie():
    rng = np.random.default_rng(0)
    corner = np.repeat([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], 6, axis=0)  # squares are half as wide
    counts = rng.poisson(2.0, size=(24, 7)).astype(np.float32)
    order = rng.permutation(24)
    cells = Expression(sparse.csr_matrix(np.log1p(counts[order])), pd.Index(list("abcdefg")))
    spots = lever_spots.as_spots(cells, 30 * corner[order] - 5)
    np.testing.assert_allclose(spots.coords, 30 * corner[::6] - 5)
    np.testing.assert_allclose(spots.expression.toarray(), np.log1p(counts.reshape(4, 6, 7).mean(1)), atol=1e-5)


def test_a_pseudo_spot_has_less_noise_and_the_level_of_its_type():
    rng = np.random.default_rng(0)
    rates = rng.lognormal(2.0, 1.0, size=(3, 40))
    kind = np.repeat([0, 1, 2], 100)
    cells = Expression(sparse.csr_matrix(np.log1p(rng.poisson(rates[kind])).astype(np.float32)), pd.RangeIndex(40))
    noise = []
    for made in (cells, *(lever_spots.as_pseudo_spots(cells, size) for size in (5, 15))):
        x = np.expm1(made.matrix.toarray().astype(float))
        assert made.genes is cells.genes
        np.testing.assert_allclose([x[kind == k].mean(0) for k in range(3)], rates, rtol=0.25)
        noise.append((((x - rates[kind]) ** 2) / rates[kind]).mean())
    assert noise[0] == pytest.approx(1, abs=0.1)  # Poisson
    assert noise[0] > 2 * noise[1] > 3 * noise[2]


def test_every_way_places_the_half_that_did_not_teach(make_slides, settings, monkeypatch):
    monkeypatch.setattr(lever_spots, "EncoderRecipe", lambda: settings.embed["recipe"])
    monkeypatch.setattr(lever_spots, "_N_COMPONENTS", 10)
    adata = make_slides(("a",), n_cells=600)
    taught, asked = lever_spots.halves(600, 0)
    coords = np.asarray(adata.obsm["spatial"])
    query = adata[asked].copy()
    del query.obsm["spatial"]
    found = dict(lever_spots.layouts(adata[taught].copy(), coords[taught], query, 0))
    assert len(found) == 12  # six ways, each sharpened too
    assert all(x.shape == (300, 2) for x in found.values())
    chance = luna_spearman(coords[asked], np.random.default_rng(0).permutation(coords[asked]))
    assert min(luna_spearman(coords[asked], x) for x in found.values()) > chance + 0.2
