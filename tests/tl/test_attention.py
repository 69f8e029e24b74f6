from __future__ import annotations

import numpy as np
import pytest

from ipar.pl import attention_focus
from ipar.tl import attention, predict_coords


def test_chosen_cells_by_name_or_position(query, model, unchanged, global_random_state):
    changes = unchanged(query)
    attention(query, model, ["cell7", 90, 7])
    assert changes() == {("uns", "ipar")}
    found = query.uns["ipar"]["attention"]
    assert found["query"].tolist() == ["cell7", "cell90"]  # each once
    assert (found["cells"] == "cell7").any(axis=1).all()
    assert (found["candidates"].sum(1) == 40).all()
    np.testing.assert_allclose(found["weights"].sum(-1), 1, rtol=1e-4)
    assert len(attention_focus(query, "cell90", return_fig=True)) == 1


def test_it_is_what_prediction_stores(query, model):
    del query.obsm["spatial"]
    predict_coords(query, model, progress=False)
    expected = query.uns["ipar"].pop("attention")
    attention(query, model)  # no truth: quadrants of the prediction
    for key, value in query.uns["ipar"]["attention"].items():
        if value.dtype == object:
            assert (value == expected[key]).all()
        else:
            np.testing.assert_allclose(value, expected[key], atol=1e-6)


def test_quadrants_are_those_of_the_truth_where_it_is_known(query, model):
    attention(query, model)
    chosen = query.uns["ipar"]["attention"]["query"]
    sides = query.obsm["spatial"][query.obs_names.get_indexer(chosen)] > np.median(query.obsm["spatial"], axis=0)
    assert len({tuple(side) for side in sides}) == 4


def test_one_slide_of_several(train, model):
    order = np.random.default_rng(0).permutation(360)
    mixed = train[order].copy()
    attention(mixed, model, slide="b", library_key="slide")
    found = mixed.uns["ipar"]["attention"]
    assert set(mixed.obs["slide"].loc[found["cells"].ravel()]) == {"b"}
    alone = mixed[mixed.obs["slide"] == "b"].copy()
    attention(alone, model)
    np.testing.assert_allclose(alone.uns["ipar"]["attention"]["weights"], found["weights"], atol=1e-5)
    copied = attention(alone, model, [3], copy=True)
    assert copied.uns["ipar"]["attention"]["query"].tolist() == [alone.obs_names[3]]
    assert len(alone.uns["ipar"]["attention"]["query"]) == 4


def test_errors(train, query, model):
    with pytest.raises(KeyError, match=r"no cells \['x', 120\].*positions from 0 to 119"):
        attention(query, model, ["x", 3, 120])
    with pytest.raises(ValueError, match="query is empty"):
        attention(query, model, [])
    with pytest.raises(ValueError, match=r"of one slide, found \['a', 'c'\]"):
        attention(train, model, [0, 300], library_key="slide")
    with pytest.raises(ValueError, match="at most 33 cells for a pass of 66, found 40"):
        attention(query, model, range(40))
    with pytest.raises(KeyError, match="no slide 'z', found .*: name one"):
        attention(train, model, slide="z", library_key="slide")
    del query.obsm["spatial"]
    with pytest.raises(KeyError, match="neither 'spatial' nor 'X_ipar'"):
        attention(query, model)
