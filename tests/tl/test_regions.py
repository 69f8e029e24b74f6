from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import ipar
from ipar.metrics import in_regions, region_coverage

QUIET = {"progress": False}


@pytest.fixture
def placed(query, model):
    ipar.tl.predict_coords(query, model, **QUIET)
    return query


def test_what_is_written(placed, model, unchanged):
    changes = unchanged(placed)
    assert ipar.tl.predict_regions(placed, model, **QUIET) is None
    written = {("obsm", "X_ipar_regions"), ("obsm", "X_ipar_regions_radii"), ("uns", "ipar")}
    assert changes() == written
    places, radii = placed.obsm["X_ipar_regions"], placed.obsm["X_ipar_regions_radii"]
    assert places.dtype == radii.dtype == np.float32
    assert places.shape == (120, 32)
    assert radii.shape == (120, 3)
    assert (np.diff(radii, axis=1) >= 0).all()
    assert (radii > 0).all()
    assert np.array_equal(places[:, :2], placed.obsm["X_ipar"])
    found = placed.uns["ipar"]["regions"]
    np.testing.assert_allclose(found["levels"], [0.5, 0.8, 0.9])
    np.testing.assert_allclose(found["floors"], np.array([0.5, 0.8, 0.9]) * 3 / 4)
    assert list(found["units"]) == ["a", "b", "c"]
    assert (found["held_out"], found["samples"], found["n_places"]) == ("slides", "layout", 16)


def test_radii_are_thresholds_times_the_root_of_the_expected_error(placed, model):
    ipar.tl.predict_regions(placed, model, [0.7], **QUIET)
    scale = np.sqrt(placed.obs["ipar_uncertainty"].to_numpy())
    expected = model.regions.layout.threshold(0.7) * scale
    np.testing.assert_allclose(placed.obsm["X_ipar_regions_radii"][:, 0], expected, rtol=1e-4)


def test_a_new_slide_is_covered_about_as_often_as_was_asked(make_slides, model):
    shares = []
    for seed in (11, 12, 13, 14):
        cells = make_slides(("new",), seed=seed)
        truth = cells.obsm.pop("spatial")
        ipar.tl.predict_regions(cells, model, **QUIET)
        found = (cells.obsm[f"X_ipar{end}"] for end in ("", "_regions", "_regions_radii"))
        shares.append(region_coverage(truth, *found))
    assert np.abs(np.mean(shares, axis=0) - [0.5, 0.8, 0.9]).max() < 0.15


def test_cells_without_a_layout_are_placed_first(query, placed, model):
    bare = query.copy()
    del bare.obsm["X_ipar"]
    del bare.uns["ipar"]
    ipar.tl.predict_regions(bare, model, **QUIET)
    ipar.tl.predict_regions(placed, model, **QUIET)
    for key in ("X_ipar", "X_ipar_regions", "X_ipar_regions_radii"):
        assert np.array_equal(bare.obsm[key], placed.obsm[key])


def test_order_slides_and_seed_do_not_matter(make_slides, model):
    two = make_slides(("x", "y"), seed=5)
    apart = {name: two[two.obs["slide"] == name].copy() for name in ("x", "y")}
    mixed = np.random.default_rng(0).permutation(two.n_obs)
    shuffled = two[mixed].copy()
    ipar.tl.predict_regions(two, model, library_key="slide", **QUIET)
    for name, own in apart.items():
        ipar.tl.predict_regions(own, model, **QUIET)
        same = two.obsm["X_ipar_regions"][two.obs["slide"] == name]
        np.testing.assert_allclose(own.obsm["X_ipar_regions"], same, atol=1e-4)
    ipar.tl.predict_regions(shuffled, model, library_key="slide", **QUIET)
    np.testing.assert_allclose(shuffled.obsm["X_ipar_regions"], two.obsm["X_ipar_regions"][mixed], atol=1e-3)
    # the expected error ranks cells, and its ties may fall either way
    radii = shuffled.obsm["X_ipar_regions_radii"], two.obsm["X_ipar_regions_radii"][mixed]
    np.testing.assert_allclose(*radii, rtol=0.1)


def test_the_model_of_the_fit_is_found_and_a_file_keeps_all(train, tmp_path):
    ipar.tl.predict_regions(train, **QUIET)
    train.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert np.array_equal(back.obsm["X_ipar_regions"], train.obsm["X_ipar_regions"])
    assert list(back.uns["ipar"]["regions"]["units"]) == ["a", "b", "c"]
    ipar.tl.predict_regions(back, **QUIET)  # the stored layout is that of the model
    assert np.array_equal(back.obsm["X_ipar_regions_radii"], train.obsm["X_ipar_regions_radii"])


def test_copy_leaves_the_cells_alone(placed, model, unchanged):
    changes = unchanged(placed)
    found = ipar.tl.predict_regions(placed, model, copy=True, **QUIET)
    assert changes() == set()
    assert "X_ipar_regions" in found.obsm


def test_a_new_layout_drops_old_regions(placed, model):
    ipar.tl.predict_regions(placed, model, **QUIET)
    ipar.tl.predict_coords(placed, model, key_added="X_again", **QUIET)
    assert "X_ipar_regions" in placed.obsm
    ipar.tl.predict_coords(placed, model, **QUIET)
    assert "X_ipar_regions" not in placed.obsm
    assert "X_ipar_regions_radii" not in placed.obsm
    assert "regions" not in placed.uns["ipar"]


def test_places_on_a_reference_stay_and_regions_are_in_the_frame_of_the_layout(query, model):
    ipar.tl.predict_coords(query, model, reference="a", **QUIET)
    kept = query.obsm["X_ipar_reference"].copy()
    ipar.tl.predict_regions(query, model, **QUIET)
    assert np.array_equal(query.obsm["X_ipar_reference"], kept)
    assert in_regions(query.obsm["X_ipar"], query.obsm["X_ipar_regions"], query.obsm["X_ipar_regions_radii"]).all()


def test_a_slide_too_small_for_a_layout_has_no_regions(make_slides, model):
    cells = make_slides(("x",), seed=5)
    cells.obs["slide"] = np.where(np.arange(cells.n_obs) < 3, "few", "many")
    ipar.tl.predict_coords(cells, model, reference="a", library_key="slide", **QUIET)
    ipar.tl.predict_regions(cells, model, library_key="slide", **QUIET)
    assert np.isnan(cells.obsm["X_ipar_regions"][:3]).all()
    assert np.isnan(cells.obsm["X_ipar_regions_radii"][:3]).all()
    assert np.isfinite(cells.obsm["X_ipar_regions"][3:]).all()


def test_parts_of_one_section_are_said_to_be_blocks(alone):
    cells = alone.query.copy()
    ipar.tl.predict_regions(cells, alone.model, [0.5, 0.9], **QUIET)
    found = cells.uns["ipar"]["regions"]
    assert found["held_out"] == "blocks"
    assert len(found["units"]) == 3
    assert cells.obsm["X_ipar_regions_radii"].shape == (150, 2)


def test_generative_models_take_samples(generated):
    cells = generated.query.copy()
    ipar.tl.predict_regions(cells, generated.model, [0.5, 0.8], **QUIET)
    found = cells.uns["ipar"]["regions"]
    assert found["samples"] == "flow"
    np.testing.assert_allclose(found["floors"], [0.25, 0.4])
    assert np.ptp(cells.obsm["X_ipar_regions_radii"][:, 0]) == 0
    again = cells.copy()
    ipar.tl.predict_regions(again, generated.model, [0.5, 0.8], **QUIET)
    assert np.array_equal(again.obsm["X_ipar_regions"], cells.obsm["X_ipar_regions"])
    with pytest.raises(ValueError, match="no regions from samples='layout'"):
        ipar.tl.predict_regions(cells, generated.model, samples="layout", **QUIET)


def test_ipalite_with_a_flow_has_both(slides, settings, query):
    fit = settings.fit | {"flow": True}
    model = ipar.tl.fit_ipalite(slides, "slide", **fit)
    ipar.tl.predict_regions(query, model, **QUIET)
    alike = query.obsm["X_ipar_regions"].copy()
    ipar.tl.predict_regions(query, model, samples="flow", **QUIET)
    assert not np.allclose(query.obsm["X_ipar_regions"], alike)
    assert len(query.uns["ipar"]["regions"]["units"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (0.9, 0.5)}, "levels must rise"),
        ({"levels": (80,)}, "strictly between 0 and 1"),
        ({"samples": "flow"}, "no regions from samples='flow'"),
        ({"samples": "cells"}, "samples must be one of"),
    ],
)
def test_options_are_checked_before_anything_is_written(query, model, unchanged, options, message):
    changes = unchanged(query)
    with pytest.raises(ValueError, match=message):
        ipar.tl.predict_regions(query, model, **options, **QUIET)
    assert changes() == set()


def test_a_model_without_calibration(placed, model, unchanged):
    changes = unchanged(placed)
    with pytest.raises(ValueError, match=r"The model has no regions.*Fit it again with ipar\.tl\.fit_ipalite"):
        ipar.tl.predict_regions(placed, replace(model, regions=None), **QUIET)
    assert changes() == set()


def test_layouts_that_were_made_otherwise_are_refused(query, model, unchanged):
    ipar.tl.predict_coords(query, model, sharpen=False, global_weight=0.9, **QUIET)
    changes = unchanged(query)
    with pytest.raises(ValueError, match=r"different: .*global_weight.*call ipar\.tl\.predict_coords\(adata, model"):
        ipar.tl.predict_regions(query, model, **QUIET)
    query.obsm["X_mine"] = query.obsm["X_ipar"]
    with pytest.raises(ValueError, match=r"obsm\['X_mine'\] is not a layout of this model"):
        ipar.tl.predict_regions(query, model, key_added="X_mine", **QUIET)
    assert changes() == {("obsm", "X_mine")}


def test_bad_expression_and_slides_are_refused_as_in_predictions(bad_query, model, unchanged):
    changes = unchanged(bad_query.adata)
    with pytest.raises(bad_query.error, match=bad_query.remedy):
        ipar.tl.predict_regions(bad_query.adata, model, library_key="slide", **QUIET)
    assert changes() == set()
