"""A section that teaches alone: how it is cut into parts, and what is known while one of them is held out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist

from ipar._run import Run
from ipar.training import Folds, SlideSet
from ipar.training.folds import Blocks
from ipar.training.slides import Slide

quick = settings(max_examples=12, deadline=None, derandomize=True)
seeds, sizes, numbers = st.integers(0, 2**31 - 1), st.integers(200, 900), st.integers(2, 4)


def section_of(seed, n, n_dims=2):
    """Coordinates of a section that is longer than wide, float32."""
    rng = np.random.default_rng(seed)
    extent = np.array([30.0, 20.0, 10.0])[:n_dims]
    return rng.uniform(-extent, extent, size=(n, n_dims)).astype(np.float32)


def slides_of(coords):
    """The section as the only slide; a cell's expression is its number."""
    numbers = sparse.csr_matrix(np.arange(len(coords), dtype=np.float32)[:, None])
    return SlideSet((Slide(numbers, coords, "s"),), pd.Index(["number"]))


def numbers_of(slides):
    """Which cells of the section some slides hold."""
    cells = [np.empty(0, dtype=int), *(slide.expression.toarray()[:, 0].astype(int) for slide in slides)]
    return np.concatenate(cells)


def cells_of(coords, seed=0, **options):
    return [set(part.rows.tolist()) for part in Folds.within(coords, Run(seed), **options).parts]


@quick
@given(seeds, sizes, numbers, st.sampled_from([2, 3]))
def test_parts_share_out_the_section(seed, n, n_parts, n_dims):
    folds = Folds.within(section_of(seed, n, n_dims), Run(seed), n_folds=n_parts)
    assert len(folds.parts) == n_parts
    assert np.array_equal(np.sort(np.concatenate([part.rows for part in folds.parts])), np.arange(n))
    assert {part.slide for part in folds.parts} == {0}
    assert sorted(sum(folds.groups, ())) == list(range(n_parts))
    assert all(len(group) == 1 for group in folds.groups)
    assert folds.one_section
    for i, part in enumerate(folds.parts):
        assert (folds.part_of_cell[part.rows] == i).all()
        assert set(folds.cells[i]) <= set(range(len(part.rows)))


@quick
@given(seeds, st.integers(600, 1500), st.sampled_from([2, 3]))
def test_parts_are_of_like_size_and_each_spans_the_tissue(seed, n, n_parts):
    coords = section_of(seed, n)
    part = Blocks().parts(coords, n_parts, Run(seed))
    counts = np.bincount(part)
    assert len(counts) == n_parts
    assert counts.max() < 1.5 * counts.min()
    spread = coords.std(axis=0)
    for i in range(n_parts):
        own = coords[part == i]
        assert (np.abs(own.mean(axis=0) - coords.mean(axis=0)) < 0.5 * spread).all()
        assert (own.std(axis=0) > 0.7 * spread).all()
        assert (np.ptp(own, axis=0) > 0.7 * np.ptp(coords, axis=0)).all()


@quick
@given(seeds, st.integers(600, 1500))
def test_blocks_are_contiguous(seed, n):
    """Most cells have their own part around them, as by chance one in three would."""
    coords = section_of(seed, n)
    part = Blocks().parts(coords, 3, Run(seed))
    near = np.argsort(cdist(coords, coords), axis=1)[:, 1:7]
    assert (part[near] == part[:, None]).mean() > 0.65


def test_a_small_section_has_fewer_blocks_that_are_no_smaller():
    for n, n_blocks in ((200, 3), (240, 6), (400, 9), (5000, 12)):
        coords = section_of(1, n)
        part = Blocks(margin_neighbors=6).parts(coords, 3, Run())
        near = np.argsort(cdist(coords, coords), axis=1)[:, 1:11]
        graph = sparse.csr_matrix((np.ones(10 * n), near.ravel(), np.arange(0, 10 * n + 1, 10)))
        same = graph.multiply(part[:, None] == part[None, :]).tocsr()
        pieces = sparse.csgraph.connected_components(same, directed=False)[0]
        assert pieces <= n_blocks  # blocks of one part may touch


def test_parts_do_not_depend_on_where_the_section_lies():
    coords = np.round(16 * section_of(0, 500)) / 16  # so that shifts are exact
    part = Blocks().parts(coords, 3, Run())
    for shift in ([512.0, 0.0], [0.0, -1024.0]):
        moved = (coords.astype(np.float64) + shift).astype(np.float32)
        again = Blocks().parts(moved, 3, Run())
        assert (part == again).mean() > 0.99


@quick
@given(seeds, st.integers(200, 500), st.integers(3, 12), st.sampled_from([2, 3]))
def test_the_margin_is_as_wide_as_the_distance_to_the_tenth_neighbour(seed, n, k, n_dims):
    coords = section_of(seed, n, n_dims)
    distances = cdist(coords.astype(float), coords.astype(float))
    width = np.median(np.sort(distances, axis=1)[:, k])
    folds = Folds.within(coords, Run(seed), blocks=Blocks(margin_neighbors=k))
    for part in folds.parts:
        others = np.setdiff1d(np.arange(n), part.rows)
        gap = distances[np.ix_(others, part.rows)].min(axis=1)
        clear = np.abs(gap - width) > 1e-5 * width
        assert np.array_equal(np.isin(others, part.margin)[clear], (gap <= width)[clear])
        assert set(part.margin.tolist()) <= set(others.tolist())
        assert len(part.margin)


def test_the_default_margin_is_ten_neighbours_wide():
    coords = section_of(3, 300)
    one, ten = (Folds.within(coords, Run(), blocks=blocks) for blocks in (Blocks(), Blocks(margin_neighbors=10)))
    assert all(np.array_equal(a.margin, b.margin) for a, b in zip(one.parts, ten.parts, strict=True))


@quick
@given(seeds, sizes, numbers)
def test_nothing_is_known_of_a_held_out_part_and_its_margin(seed, n, n_parts):
    coords = section_of(seed, n)
    slides, folds = slides_of(coords), Folds.within(coords, Run(seed), n_folds=n_parts)
    for i, part in enumerate(folds.parts):
        known = numbers_of(folds.known(slides, [i]))
        assert np.array_equal(known, np.setdiff1d(np.arange(n), np.r_[part.rows, part.margin]))
    both = numbers_of(folds.known(slides, [0, 1]))
    assert set(both.tolist()) == set.intersection(*(set(numbers_of(folds.known(slides, [i])).tolist()) for i in (0, 1)))
    assert np.array_equal(numbers_of(folds.known(slides, [])), np.arange(n))


@quick
@given(seeds, sizes, numbers)
def test_training_goes_without_the_held_out_part_and_its_margin(seed, n, n_parts):
    coords = section_of(seed, n)
    slides, folds = slides_of(coords), Folds.within(coords, Run(seed), n_folds=n_parts)
    parts, left = folds.split(slides), folds.parts[folds.held_out]
    rest = folds.rest()
    assert folds.held_out not in [i for i, _ in rest]
    trained = np.concatenate([numbers_of([parts[i].rows(rows)]) for i, rows in rest])
    assert np.array_equal(np.sort(trained), np.setdiff1d(np.arange(n), np.r_[left.rows, left.margin]))
    assert set(trained.tolist()) == set(numbers_of(folds.known(slides, [folds.held_out])).tolist())


def test_whole_slides_have_no_margin():
    folds = Folds.of([60, 50, 70], Run())
    slides = SlideSet(
        tuple(
            Slide(sparse.csr_matrix((len(p.rows), 1)), np.zeros((len(p.rows), 2)), str(p.slide)) for p in folds.parts
        ),
        pd.Index(["number"]),
    )
    assert not folds.one_section
    assert [len(rows) for _, rows in folds.rest()] == [n for i, n in enumerate((60, 50, 70)) if i != folds.held_out]
    assert [slide.name for slide in folds.known(slides, [1])] == ["0", "2"]
    assert folds.split(slides) is slides


@quick
@given(seeds, sizes, numbers)
def test_what_is_split_is_joined_again(seed, n, n_parts):
    coords = section_of(seed, n)
    slides, folds = slides_of(coords), Folds.within(coords, Run(seed), n_folds=n_parts)
    parts = folds.split(slides)
    assert [slide.name for slide in parts] == [f"s, part {i + 1}" for i in range(n_parts)]
    (whole,) = folds.joined(parts.coords)
    assert np.array_equal(whole, coords)


def test_seeds():
    coords = section_of(0, 500)
    assert cells_of(coords, 3) == cells_of(coords, 3)
    assert cells_of(coords, 3) != cells_of(coords, 4)
    assert len({Folds.within(coords, Run(seed)).held_out for seed in range(12)}) > 1


@quick
@given(seeds, sizes, numbers)
def test_parts_that_were_stored_give_the_same_folds(seed, n, n_parts):
    coords = section_of(seed, n)
    drawn = Folds.within(coords, Run(seed), n_folds=n_parts)
    stored = pd.Categorical(drawn.part_of_cell + 1).codes
    again = Folds.within(coords, Run(seed), part=np.asarray(stored, dtype=np.int64))
    assert (drawn.groups, drawn.held_out) == (again.groups, again.held_out)
    for a, b in zip(drawn.parts, again.parts, strict=True):
        assert np.array_equal(a.rows, b.rows)
        assert np.array_equal(a.margin, b.margin)
    assert all(np.array_equal(a, b) for a, b in zip(drawn.cells, again.cells, strict=True))


def test_slides_are_held_out_whole_and_a_section_alone_in_parts():
    coords = section_of(0, 300)
    one = slides_of(coords)
    two = SlideSet((one[0], Slide(one[0].expression, coords, "t")), one.genes)
    assert Folds.for_slides(one, Run()).one_section
    assert [len(part.rows) for part in Folds.for_slides(two, Run()).parts] == [300, 300]


def test_too_few_folds():
    with pytest.raises(ValueError, match="n_folds must be at least 2, found 1"):
        Folds.within(section_of(0, 300), Run(), n_folds=1)
    with pytest.raises(ValueError, match="n_folds must be at least 2, found 1"):
        Folds.within(section_of(0, 300), Run(), part=np.zeros(300, dtype=np.int64))
