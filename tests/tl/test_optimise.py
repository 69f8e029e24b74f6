from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import procrustes

from ipar.tl import optimise_coords, predict_coords
from ipar.training import Optimisation

FEW = Optimisation(n_steps=4, subset_size=60)


@pytest.fixture
def predicted(query, model):
    predict_coords(query, model, progress=False)
    return query


def test_the_oracle_finds_every_slide_again(slides, unchanged, global_random_state):
    two = slides[np.random.default_rng(0).permutation(np.r_[0:60, 120:180])].copy()
    changes = unchanged(two)
    recipe = Optimisation(n_steps=500, lr=0.1)
    optimise_coords(two, library_key="slide", recipe=recipe, progress=False)
    assert changes() == {("obsm", "X_ipar_oracle"), ("uns", "ipar")}
    found = two.obsm["X_ipar_oracle"]
    assert found.dtype == np.float32
    for name in "ab":
        own = (two.obs["slide"] == name).to_numpy()
        assert procrustes(two.obsm["spatial"][own], found[own])[2] < 0.05
        np.testing.assert_allclose(found[own].mean(0), 0, atol=1e-5)
        assert np.square(found[own]).sum(1).mean() == pytest.approx(1, abs=1e-4)
    record = two.uns["ipar"]["optimisation"]
    assert record["kind"] == "oracle"
    assert set(record["history"]["slide"]) == {"a", "b"}
    assert record["history"].groupby("slide")["total"].last().max() < 0.05


def test_polishing_writes_beside_the_prediction_and_reads_no_truth(predicted, model, unchanged, global_random_state):
    changes = unchanged(predicted)
    optimise_coords(predicted, model, refine=True, recipe=FEW, progress=False)
    assert changes() == {("obsm", "X_ipar_refined"), ("uns", "ipar")}
    assert predicted.uns["ipar"]["optimisation"]["kind"] == "refine"
    blind = predicted.copy()
    del blind.obsm["spatial"], blind.obsm["X_ipar_refined"]
    optimise_coords(blind, model, refine=True, recipe=FEW, progress=False)
    assert np.array_equal(blind.obsm["X_ipar_refined"], predicted.obsm["X_ipar_refined"])
    moved = np.abs(predicted.obsm["X_ipar_refined"] - predicted.obsm["X_ipar"]).max()
    assert 0 < moved < 0.5


def test_the_model_of_a_fit_is_found_and_the_record_survives_a_file(train, tmp_path):
    predict_coords(train, progress=False)
    optimise_coords(train, refine=True, recipe=FEW, key_added="X_better", progress=False)
    train.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert np.array_equal(again.obsm["X_better"], train.obsm["X_better"])
    stored = again.uns["ipar"]["optimisation"]
    assert stored["key_added"] == "X_better"
    pd.testing.assert_frame_equal(
        stored["history"].reset_index(drop=True),
        train.uns["ipar"]["optimisation"]["history"],
        check_dtype=False,
        check_index_type=False,
    )


def test_seed_steps_and_copy(predicted, model, unchanged):
    changes = unchanged(predicted)
    options = {"refine": True, "copy": True, "progress": False, "n_steps": 3}
    one, same, other = (optimise_coords(predicted, model, random_state=s, **options) for s in (0, 0, 1))
    assert changes() == set()
    assert np.array_equal(one.obsm["X_ipar_refined"], same.obsm["X_ipar_refined"])
    assert not np.array_equal(one.obsm["X_ipar_refined"], other.obsm["X_ipar_refined"])
    assert one.uns["ipar"]["optimisation"]["n_steps"] == 3


def test_what_is_wrong_and_what_to_do(predicted, model, query):
    with pytest.raises(ValueError, match="oracle reads no model.*refine=True"):
        optimise_coords(predicted, model)
    with pytest.raises(ValueError, match="No model given"):
        optimise_coords(predicted, refine=True)
    with pytest.raises(KeyError, match=r"no 'X_other_layout'.*predict_coords.*coords_key"):
        optimise_coords(predicted, model, refine=True, coords_key="X_other_layout")
    with pytest.raises(KeyError, match="no 'nowhere'"):
        optimise_coords(predicted, spatial_key="nowhere")
    with pytest.raises(ValueError, match="Every slide needs at least 4 cells.*found 3 in slide 'all'"):
        optimise_coords(predicted[:3].copy())
    with pytest.raises(ValueError, match="n_steps must be at least 1, found 0"):
        optimise_coords(predicted, n_steps=0)
    predicted.obsm["X_ipar"][:] = 1.0
    with pytest.raises(ValueError, match="only 1 distinct positions"):
        optimise_coords(predicted, model, refine=True)
