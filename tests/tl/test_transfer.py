"""The map onto a reference, and expression and labels that are carried by it."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar.tl import impute, map_to_reference, predict_coords, transfer


@pytest.fixture
def section(alone):
    """The section that the model was fitted on, without some of its genes."""
    return alone.train[:, :50].copy()


@pytest.fixture
def cells(alone):
    return alone.query.copy()


@pytest.fixture
def model(alone):
    return alone.model


@pytest.fixture
def perfect(alone):
    """The cells of the section in another order, each mapped onto its own place, and that order."""
    order = np.random.default_rng(0).permutation(500)
    cells = alone.train[order].copy()
    ones = np.ones(500, dtype=np.float32)
    cells.obsm["ipar_map"] = sparse.csr_matrix((ones, (np.arange(500), order)), shape=(500, 500))
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(1).choice(list("xyz"), 500))
    return cells, np.argsort(order)


def test_what_a_map_writes(cells, model, unchanged, global_random_state):
    changes = unchanged(cells)
    assert map_to_reference(cells, model, progress=False) is None
    assert changes() == {("obsm", "ipar_map"), ("obsm", "ipar_map_reference"), ("obs",), ("uns", "ipar")}
    weights = cells.obsm["ipar_map"]
    assert weights.shape == (150, 500)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    places = model.reference.slide().coords
    np.testing.assert_allclose(
        cells.obsm["ipar_map_reference"], weights.toarray().astype(float) @ places, rtol=1e-4, atol=0.1
    )
    assert set(cells.obs) == {"slide", "ipar_map_confidence", "ipar_map_similarity"}
    assert cells.obs["ipar_map_similarity"].between(-1, 1.0001).all()
    record = cells.uns["ipar"]["map"]
    assert (record["reference"], record["balanced"], record["key_added"]) == ("section", False, "ipar_map")


def test_a_layout_is_used_where_there_is_one(cells, model):
    predict_coords(cells, model, progress=False)
    by_matches = map_to_reference(cells, model, layout_key=None, copy=True, progress=False)
    by_both = map_to_reference(cells, model, copy=True, progress=False)
    assert len(by_matches.uns["ipar"]["map"]["frames"]["slide"]) == 0
    assert list(by_both.uns["ipar"]["map"]["frames"]["slide"]) == ["all"]
    assert not np.allclose(by_matches.obsm["ipar_map_reference"], by_both.obsm["ipar_map_reference"], atol=1.0)


def test_a_single_cell_is_mapped(cells, model):
    one = cells[:1].copy()
    map_to_reference(one, model, progress=False)
    assert one.obsm["ipar_map"].shape == (1, 500)
    assert np.isfinite(one.obsm["ipar_map_reference"]).all()


def test_slides_are_mapped_each_by_itself_whatever_the_order_of_their_cells(cells, model):
    cells.obs["half"] = np.where(np.arange(150) % 3 == 0, "one", "two")
    map_to_reference(cells, model, library_key="half", progress=False)
    for name in ("one", "two"):
        own = (cells.obs["half"] == name).to_numpy()
        alone = map_to_reference(cells[own].copy(), model, copy=True, progress=False)
        np.testing.assert_allclose(cells.obsm["ipar_map"][own].toarray(), alone.obsm["ipar_map"].toarray(), atol=0.01)
        for key in ("ipar_map_confidence", "ipar_map_similarity"):
            np.testing.assert_allclose(cells.obs[key][own], alone.obs[key], atol=0.01)
    weights, places = cells.obsm["ipar_map"].toarray().astype(float), model.reference.slide().coords
    np.testing.assert_allclose(cells.obsm["ipar_map_reference"], weights @ places, atol=0.1)


def test_a_balanced_map_gives_places_like_numbers_of_cells(cells, model):
    pytest.importorskip("ot")
    map_to_reference(cells, model, balanced=True, progress=False)
    weights = cells.obsm["ipar_map"]
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), 150 / 500, rtol=0.1)


def test_a_balanced_map_without_pot_changes_nothing(cells, model, monkeypatch, unchanged):
    monkeypatch.setitem(sys.modules, "ot", None)
    changes = unchanged(cells)
    with pytest.raises(ImportError, match=r"pip install 'ipar\[ot\]'"):
        map_to_reference(cells, model, balanced=True, progress=False)
    assert changes() == set()


def test_a_perfect_map_carries_expression_as_it_is(section, perfect, model, alone):
    cells, _ = perfect
    found = impute(section, cells, model)
    assert list(found.var_names) == [f"gene{i}" for i in range(50, 60)]
    assert found.X.dtype == np.float32
    np.testing.assert_allclose(found.X, alone.train.X[:, 50:].toarray(), atol=1e-4)
    assert found.obs.equals(section.obs)
    assert np.array_equal(found.obsm["spatial"], section.obsm["spatial"])
    chosen = impute(section, cells, model, ["gene3", "gene58"])
    np.testing.assert_allclose(chosen.X, alone.train.X[:, [3, 58]].toarray(), atol=1e-4)
    plain = impute(section, cells, model, ["gene3"], regress=False)
    np.testing.assert_array_equal(plain.X, alone.train.X[:, [3]].toarray())


def test_a_perfect_map_carries_labels_to_the_section(section, perfect, model):
    cells, back = perfect
    transfer(section, cells, model, "kind")
    assert (section.obs["ipar_kind"].to_numpy() == cells.obs["kind"].to_numpy()[back]).all()
    shares = section.obsm["ipar_kind_shares"]
    assert list(shares.columns) == ["x", "y", "z"]
    assert shares.index.equals(section.obs_names)
    assert (shares.to_numpy() == pd.get_dummies(section.obs["ipar_kind"]).to_numpy()).all()
    assert "ipar_kind" not in cells.obs


def test_a_perfect_map_carries_labels_to_the_cells(section, perfect, model):
    cells, back = perfect
    section.obs["region"] = pd.Categorical(np.arange(500) // 100)
    transfer(section, cells, model, "region", key_added="where")
    own = cells.obs["where"].to_numpy()[back]
    assert (own == section.obs["region"].astype(str).to_numpy()).all()
    np.testing.assert_allclose(cells.obsm["where_shares"].sum(axis=1), 1, atol=1e-6)


def test_a_place_takes_the_weighted_mean_of_its_cells(section, cells, model):
    map_to_reference(cells, model, progress=False)
    weights = cells.obsm["ipar_map"].toarray().astype(float)
    expected = (weights.T @ cells.X[:, 50:].toarray()) / weights.sum(axis=0)[:, None]
    plain = impute(section, cells, model, regress=False)
    np.testing.assert_allclose(plain.X, expected, rtol=1e-4, atol=1e-5)
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(1).choice(list("xyz"), 150))
    transfer(section, cells, model, "kind")
    dummies = pd.get_dummies(cells.obs["kind"]).to_numpy(dtype=float)
    shares = (weights.T @ dummies) / weights.sum(axis=0)[:, None]
    np.testing.assert_allclose(section.obsm["ipar_kind_shares"], shares, atol=1e-5)
    np.testing.assert_allclose(section.obsm["ipar_kind_shares"].sum(axis=1), 1, atol=1e-5)


def test_imputed_genes_vary_over_the_tissue_as_they_do(section, cells, model, alone):
    found, truth = impute(section, cells, model).X, alone.train.X[:, 50:].toarray()
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, truth.T, strict=True)]
    assert np.mean(correlations) > 0.5


def test_a_map_that_is_missing_is_made_and_nothing_else_changes(section, cells, model, unchanged):
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(1).choice(list("xyz"), 150))
    mapped = map_to_reference(cells, model, copy=True, progress=False)
    expected = impute(section, mapped, model).X
    of_cells, of_section = unchanged(cells), unchanged(section)
    np.testing.assert_array_equal(impute(section, cells, model).X, expected)
    assert of_cells() == of_section() == set()
    transfer(section, cells, model, "kind")
    assert of_cells() == set()
    assert of_section() == {("obs",), ("obsm", "ipar_kind_shares")}


def test_several_slides_and_the_name_of_one(fitted):
    part = fitted.train[fitted.train.obs["slide"] == "b", :50].copy()
    found = impute(part, fitted.query, fitted.model, reference="b")
    assert found.shape == (120, 10)
    with pytest.raises(ValueError, match=r"found None: choose one of \['a', 'b', 'c'\]"):
        impute(part, fitted.query, fitted.model)
    with pytest.raises(ValueError, match="section must be reference 'a' as the model was fitted on it"):
        impute(part, fitted.query, fitted.model, reference="a")


def another_order(section, cells, model):
    return section[np.roll(np.arange(500), 1)].copy(), cells, model


def other_coordinates(section, cells, model):
    section.obsm["spatial"] = section.obsm["spatial"] * 2
    return section, cells, model


def fewer_cells(section, cells, model):
    return section[:499].copy(), cells, model


def another_order_far_away(section, cells, model):
    slide = model.reference.slide()
    far = replace(model.reference, slides=(replace(slide, coords=slide.coords + 1e8),))
    section.obsm["spatial"] = section.obsm["spatial"][::-1] + 1e8
    return section, cells, replace(model, reference=far)


def another_map(section, cells, model):
    cells.obsm["ipar_map"] = sparse.csr_matrix((150, 499), dtype=np.float32)
    return section, cells, model


def no_reference(section, cells, model):
    return section, cells, replace(model, reference=None)


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (another_order, "section must be reference 'section'.*500 cells in the same order.*pass that slide alone"),
        (other_coordinates, "found 500 cells or other coordinates: pass that slide alone"),
        (fewer_cells, "found 499 cells or other coordinates: pass that slide alone"),
        (another_order_far_away, "found 500 cells or other coordinates: pass that slide alone"),
        (another_map, "maps onto 499 places, but reference 'section' has 500: run ipar.tl.map_to_reference"),
        (no_reference, "keeps no reference: fit it with keep_reference=True"),
    ],
)
def test_what_does_not_belong_together_is_refused(section, cells, model, unchanged, spoil, remedy):
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(1).choice(list("xyz"), 150))
    section, cells, model = spoil(section, cells, model)
    of_cells, of_section = unchanged(cells), unchanged(section)
    with pytest.raises(ValueError, match=remedy):
        impute(section, cells, model)
    with pytest.raises(ValueError, match=remedy):
        transfer(section, cells, model, "kind")
    assert of_cells() == of_section() == set()


def test_genes_that_are_not_there(section, cells, alone, model):
    with pytest.raises(KeyError, match=r"cells have no genes \['nothing'\]: name genes of cells.var_names"):
        impute(section, cells, model, ["gene3", "nothing"])
    with pytest.raises(ValueError, match="No genes to impute: the section has all genes of the cells. Name some"):
        impute(alone.train, cells, model)


def test_labels_that_cannot_be_carried(section, cells, model, unchanged):
    section.obs["both"] = cells.obs["both"] = "x"
    cells.obs["gaps"] = pd.Categorical(["x"] * 149 + [None])
    of_cells, of_section = unchanged(cells), unchanged(section)
    for obs, options, error, remedy in (
        ("none", {}, KeyError, r"has obs\['none'\]: name a column with labels as obs"),
        ("both", {}, ValueError, r"Both section and cells have obs\['both'\]: name the one that"),
        ("gaps", {}, ValueError, "label for every cell, found 1 missing values: fill them, or remove these cells"),
        ("gaps", {"to": "cells"}, KeyError, r"has obs\['gaps'\]: name a column with labels as obs"),
        ("both", {"to": "places"}, ValueError, "to must be 'section' or 'cells', found 'places': name the object"),
    ):
        with pytest.raises(error, match=remedy):
            transfer(section, cells, model, obs, **options)
    assert of_cells() == of_section() == set()


@pytest.mark.parametrize("to", ["section", "cells"])
def test_where_both_have_labels_the_receiver_is_told(section, cells, model, to):
    section.obs["both"], cells.obs["both"] = "of the section", "of the cells"
    transfer(section, cells, model, "both", to=to)
    receiver, giver, label = (section, cells, "of the cells") if to == "section" else (cells, section, "of the section")
    assert set(receiver.obs["ipar_both"]) == {label}
    assert "ipar_both" not in giver.obs


def test_labels_on_a_copy(section, cells, model, unchanged):
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(1).choice(list("xyz"), 150))
    of_cells, of_section = unchanged(cells), unchanged(section)
    found = transfer(section, cells, model, "kind", copy=True)
    assert of_cells() == of_section() == set()
    assert transfer(section, cells, model, "kind") is None
    assert found.obs["ipar_kind"].equals(section.obs["ipar_kind"])
    assert found.obsm["ipar_kind_shares"].equals(section.obsm["ipar_kind_shares"])
