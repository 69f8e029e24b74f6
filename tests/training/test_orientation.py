"""Whether expression tells the sides of a tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from ipar.training.orientation import Orientation


def matches(coords, places, k=5):
    """Each cell with the places nearest to it."""
    distance, index = cKDTree(places).query(coords, k)
    weight = np.exp(-distance) / np.exp(-distance).sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(coords)), k)
    return sparse.csr_matrix((weight.ravel(), (rows, index.ravel())), shape=(len(coords), len(places)))


@pytest.fixture
def tissue():
    """Cells and places of one tissue far from the origin, longer than wide."""
    rng = np.random.default_rng(0)
    cells, places = rng.random((2, 300, 2)) * [3.0, 2.0] + [70.0, -40.0]
    return cells, places


def mirrored(coords):
    return coords * [-1.0, 1.0] + [2 * 71.5, 0.0]


def test_matches_that_hold_tell_the_sides(tissue):
    cells, places = tissue
    assert Orientation().told([(cells, places, matches(cells, places))]) > 0.99


def test_matches_on_the_other_side_do_not(tissue):
    cells, places = tissue
    assert Orientation().told([(cells, places, matches(mirrored(cells), places))]) < 0.01


def test_matches_on_both_sides_do_not(tissue):
    cells, places = tissue
    flip = np.random.default_rng(1).random(len(cells)) < 0.5
    either = np.where(flip[:, None], mirrored(cells), cells)
    assert Orientation().told([(cells, places, matches(either, places))]) < 0.95


def test_parts_of_a_section_bear_witness_together(tissue):
    cells, places = tissue
    left = cells[:, 0] < 71.5
    parts = [(cells[own], places, matches(cells[own], places)) for own in (left, ~left)]
    whole = Orientation().told([(cells, places, matches(cells, places))])
    assert Orientation().told(parts) == pytest.approx(whole, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("s",), ("s", "t")])
def test_the_verdict_says_whether_a_tissue_is_mirrored(make_slides, settings, names):
    """The same tissue twice, once with half of its cells on the other side."""
    import ipar

    found = {}
    recipe = replace(settings.hasty["recipe"], n_folds=2) if len(names) > 1 else settings.hasty["recipe"]
    for twofold in (False, True):
        train = make_slides(names, n_cells=500, mirrored=twofold)
        ipar.pp.embed(train, "slide" if len(names) > 1 else None, **settings.hasty | {"recipe": recipe})
        found[twofold] = train.uns["ipar"]["localisability"]["oriented"]
    assert found[True] < 0.8 < found[False]
