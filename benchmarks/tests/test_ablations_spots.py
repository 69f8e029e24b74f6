from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks.ablations import folds, spots
from benchmarks.tasks.tasks import Slides
from ipar.training.slides import Slide


def test_a_spot_holds_the_mean_of_its_cells_where_they_lie():
    rng = np.random.default_rng(0)
    corner = np.repeat([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], 6, axis=0)  # squares are half as wide
    counts = rng.poisson(2.0, size=(24, 7)).astype(np.float32)
    order = rng.permutation(24)
    cells = Slide(sparse.csr_matrix(np.log1p(counts[order])), (30 * corner[order] - 5).astype(np.float32), "cells")
    found = spots.as_spots(cells)
    np.testing.assert_allclose(found.coords, 30 * corner[::6] - 5)
    np.testing.assert_allclose(found.expression.toarray(), np.log1p(counts.reshape(4, 6, 7).mean(1)), atol=1e-5)


def test_a_pseudo_spot_has_less_noise_and_the_level_of_its_type():
    rng = np.random.default_rng(0)
    rates = rng.lognormal(2.0, 1.0, size=(3, 40))
    kind = np.repeat([0, 1, 2], 100)
    matrix = sparse.csr_matrix(np.log1p(rng.poisson(rates[kind])).astype(np.float32))
    cells = Slide(matrix, np.zeros((300, 2), dtype=np.float32), "cells")
    noise = []
    for made in (cells, *(spots.as_pseudo_spots(cells, size) for size in (5, 15))):
        x = np.expm1(made.expression.toarray().astype(float))
        np.testing.assert_allclose([x[kind == k].mean(0) for k in range(3)], rates, rtol=0.25)
        noise.append((((x - rates[kind]) ** 2) / rates[kind]).mean())
    assert noise[0] == pytest.approx(1, abs=0.1)  # Poisson
    assert noise[0] > 2 * noise[1] > 3 * noise[2]


def test_every_way_places_the_half_that_did_not_teach(slides, hasty_recipe, names_of):
    query = slides.train.copy()
    whole = Slides(query[:0], query, np.asarray(query.obsm.pop("spatial")))
    half = folds.halves(whole, 0, 1)
    found = dict(spots.layouts(half, 0, hasty_recipe))
    assert list(found) == names_of("spots")
    assert {x.shape for x in found.values()} == {half.truth.shape}
