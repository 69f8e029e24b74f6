"""Training slides that are unusual are named, and usual ones pass in silence."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar._slide_checks import SlideChecks
from ipar.training import SlideSet

CHECKS = SlideChecks()
N, GENES = 200, 40


def expression(seed, rate=0.7):
    rng = np.random.default_rng(seed)
    return np.log1p(rng.poisson(rate, (N, GENES)) * rng.uniform(1, 3, (N, 1)))


def slides_of(*slides, genes=None):
    names = pd.Index(genes if genes is not None else [f"Gene{i}" for i in range(GENES)])
    labels = pd.Categorical(np.repeat([f"s{i}" for i in range(len(slides))], N))
    coords = np.random.default_rng(9).random((N * len(slides), 2))
    return SlideSet.of(sparse.csr_matrix(np.concatenate(slides), dtype=np.float32), names, coords, labels)


def positions(seed=0):
    return np.random.default_rng(seed).normal(size=(N, 2))


ONE = pd.Categorical(["a"] * N)


def test_usual_slides_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CHECKS.check_sizes(ONE)
        CHECKS.check_positions(positions() * 1e6 + 1e9, ONE)
        CHECKS.check_positions(np.stack(np.meshgrid(np.arange(20), np.arange(10)), axis=-1).reshape(-1, 2), ONE)
        CHECKS.check_expression(slides_of(expression(0), expression(1), expression(2, rate=0.4)))


def test_slides_must_be_large_enough():
    slides = pd.Categorical(["a"] * 50 + ["b"] * 49 + ["c"] * 2)
    with pytest.raises(ValueError, match=r"at least 50 cells, found b \(49\), c \(2\): remove these slides"):
        CHECKS.check_sizes(slides)
    CHECKS.check_sizes(pd.Categorical(["a"] * 50 + ["b"] * 50))
    with pytest.raises(ValueError, match="alone needs at least 200 cells.*found 199: add cells, or another section"):
        CHECKS.check_sizes(pd.Categorical(["a"] * 199))


def test_cells_that_share_a_position_are_counted():
    slides = pd.Categorical(["a"] * 100 + ["b"] * 100)
    coords = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    coords[100:120] = coords[100]
    with pytest.warns(UserWarning, match="'b': 19 of 100 cells share a position") as caught:
        CHECKS.check_positions(coords, slides)
    assert len(caught) == 1
    coords[100:] = coords[100:104].repeat(25, axis=0)
    with pytest.raises(ValueError, match="'b' has only 1 distinct positions for 100 cells"):
        CHECKS.check_positions(coords, slides)


@pytest.mark.parametrize("far", [1e3, 1e12])
def test_a_stray_cell_is_named(far):
    coords = positions()
    coords[17] = [far, 0]
    with pytest.warns(UserWarning, match=r"'a': 1 of 200 cells lie .* the first at \[1.*remove these cells"):
        CHECKS.check_positions(coords, ONE)


def test_cells_on_a_line_are_named():
    along = positions()[:, :1]
    with pytest.warns(UserWarning, match="all cells lie on a line"):
        CHECKS.check_positions(along * [2.0, 1.0] + 3.0, ONE)


def test_control_probes_are_named():
    genes = [f"Gene{i}" for i in range(GENES - 2)] + ["Blank-12", "NegControlProbe_3"]
    with pytest.warns(UserWarning, match=r"2 columns \('Blank-12', 'NegControlProbe_3'\) look like control probes"):
        CHECKS.check_expression(slides_of(expression(0), genes=genes))


def test_a_slide_of_another_panel_is_named():
    other = expression(1)
    other[:, [3, 4]] = 0
    with pytest.warns(UserWarning, match=r"'s1': 2 genes \('Gene3', 'Gene4'\) have no counts.*join='inner'") as caught:
        CHECKS.check_expression(slides_of(expression(0), other, expression(2)))
    assert len(caught) == 1


def test_rare_genes_may_be_missing_from_a_slide():
    slides = [expression(seed) for seed in range(3)]
    for slide in slides:
        slide[:, 5] = 0
    slides[0][:10, 5] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CHECKS.check_expression(slides_of(*slides))


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_slide_under_two_names_is_named(share):
    one, other = expression(0), expression(1)
    other[: int(share * N)] = one[::-1][: int(share * N)]
    with pytest.warns(UserWarning, match=r"'s0' and 's1' have (60|100)% of their cells in common.*remove one of them"):
        CHECKS.check_expression(slides_of(one, other))
