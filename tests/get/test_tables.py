"""Results as tables: the values of the AnnData, by the names of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ipar


@pytest.fixture(scope="module")
def placed(fitted):
    adata = fitted.query.copy()
    ipar.tl.predict_coords(adata, fitted.model, reference="a", progress=False)
    return adata


def test_coordinates_follow_their_cells(placed):
    table = ipar.get.coords(placed)
    assert list(table) == ["x", "y"]
    assert np.array_equal(table.to_numpy(), placed.obsm["X_ipar"])
    some = placed[::-3]
    assert ipar.get.coords(some).equals(table.loc[some.obs_names])
    assert ipar.get.coords(placed, "X_ipar_reference")["y"].equals(
        pd.Series(placed.obsm["X_ipar_reference"][:, 1], placed.obs_names)
    )


def test_coordinates_of_three_dimensions_and_without_a_place(placed):
    adata = placed.copy()
    adata.obsm["solid"] = np.arange(3.0 * adata.n_obs).reshape(-1, 3)
    adata.obsm["solid"][4] = np.nan
    table = ipar.get.coords(adata, "solid")
    assert list(table) == ["x", "y", "z"]
    assert table.isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [4]


def test_uncertainty_has_the_columns_that_are_there(placed):
    table = ipar.get.uncertainty(placed)
    expected = ["ipar_uncertainty", "ipar_uncertainty_reference", "ipar_belongs", "ipar_map_confidence"]
    assert list(table) == [*expected, "ipar_map_similarity"]
    assert table.equals(placed.obs[list(table)])
    without = placed.copy()
    del without.obs["ipar_uncertainty_reference"]
    assert "ipar_uncertainty_reference" not in ipar.get.uncertainty(without)


def test_tables_are_copies(placed, unchanged):
    changes = unchanged(placed)
    for table in (ipar.get.coords(placed), ipar.get.uncertainty(placed), ipar.get.record(placed)):
        table.iloc[0] = 9
    assert changes() == set()


def test_the_record_has_every_value_once(fitted):
    table = ipar.get.record(fitted.train)
    found = {(row.part, row.entry): row.value for row in table.itertuples()}
    assert len(found) == len(table)
    own = fitted.train.uns["ipar"]
    assert set(table["part"]) == set(own)
    assert found["fit", "validation_slide"] == own["fit"]["validation_slide"]
    assert found["fit", "seconds/network"] == own["fit"]["seconds"]["network"]
    assert found["fit", "finish"] == f"table {own['fit']['finish'].shape}"
    assert found["history", ""] == f"table {own['history'].shape}"
    assert found["model", "format"] == own["model"]["format"]
    assert not any(isinstance(value, pd.DataFrame | np.ndarray | dict) for value in table["value"])
    assert max(len(str(value)) for value in table["value"]) < 200


def test_what_is_missing_is_named_with_the_remedy(query):
    with pytest.raises(KeyError, match=r"no 'X_ipar': run ipar\.tl\.predict_coords"):
        ipar.get.coords(query)
    with pytest.raises(KeyError, match="no 'ipar_uncertainty'"):
        ipar.get.uncertainty(query)
    with pytest.raises(KeyError, match="no 'mine_uncertainty'"):
        ipar.get.uncertainty(query, "mine")
    with pytest.raises(KeyError, match="no 'ipar'"):
        ipar.get.record(query)
    query.obsm["wide"] = np.zeros((query.n_obs, 5))
    with pytest.raises(ValueError, match=r"two or three columns, found shape \(120, 5\)"):
        ipar.get.coords(query, "wide")
