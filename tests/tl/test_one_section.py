"""A fit on one section: what is written, stored and refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import ipar
from ipar.tl import fit_ipalite, map_to_reference, predict_coords


@pytest.fixture
def section(make_slides):
    """A section as a user brings it."""
    return make_slides(("s",), n_cells=240)


@pytest.fixture
def fit(settings):
    """Fit with a small network and few steps."""

    def run(adata, *args, **options):
        return fit_ipalite(adata, *args, **settings.fit | {"max_epochs": 1} | options)

    return run


def test_what_is_held_out_is_written(alone):
    written = alone.train.uns["ipar"]
    assert written["localisability"]["held_out"] == "blocks"
    assert alone.model.record["localisability"]["held_out"] == "blocks"
    assert list(written["localisability"]["folds"]["slide"]) == [f"section, part {i}" for i in (1, 2, 3)]
    assert written["fit"]["validation_slide"] in {f"section, part {i}" for i in (1, 2, 3)}
    assert "library_key" not in written["fit"]
    part = alone.train.obs["ipar_part"]
    assert list(part.cat.categories) == [1, 2, 3]
    assert not part.isna().any()
    assert alone.model.reference.names == ["section"]
    assert np.array_equal(alone.model.reference.slide().coords, alone.train.obsm["spatial"])
    assert np.isfinite(alone.train.obsm["X_ipar_embed"]).all()
    assert np.isfinite(alone.train.obsm["X_ipar_embed_global"]).all()


def test_slides_that_are_held_out_whole_have_no_parts(fitted):
    assert "ipar_part" not in fitted.train.obs
    assert fitted.train.uns["ipar"]["localisability"]["held_out"] == "slides"


def test_a_section_alone_and_a_column_of_one_slide_are_fitted_alike(section, fit):
    one, named = fit(section.copy()), fit(section.copy(), "slide")
    assert named.reference.names == ["s"]
    assert one.reference.names == ["section"]
    a, b = one.state()[1], named.state()[1]
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_parts_that_were_stored_are_held_out_again(section, fit, settings):
    ipar.pp.embed(section, **settings.hasty)
    stored, embedding = section.obs["ipar_part"].copy(), section.obsm["X_ipar_embed"].copy()
    first = fit(section, random_state=5)  # another seed than that of the embedding
    assert section.obs["ipar_part"].equals(stored)
    assert np.array_equal(section.obsm["X_ipar_embed"], embedding)
    kept = section.uns["ipar"]["fit"]["validation_slide"]
    again = fit(section, random_state=5)
    assert section.uns["ipar"]["fit"]["validation_slide"] == kept
    a, b = first.state()[1], again.state()[1]
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_section_without_its_parts_is_embedded_anew(section, fit, settings):
    ipar.pp.embed(section, **settings.hasty)
    parts = section.obs.pop("ipar_part")
    fit(section)
    assert section.obs["ipar_part"].equals(parts)


def test_strings_name_slides_as_categories_do(slides, settings):
    expected = ipar.pp.embed(slides, "slide", copy=True, **settings.hasty)
    slides.obs["slide"] = slides.obs["slide"].astype(str)
    ipar.pp.embed(slides, "slide", **settings.hasty)
    assert pd.api.types.is_string_dtype(slides.obs["slide"])  # left as it was
    assert not isinstance(slides.obs["slide"].dtype, pd.CategoricalDtype)
    assert np.array_equal(slides.obsm["X_ipar_embed"], expected.obsm["X_ipar_embed"])
    assert list(slides.uns["ipar_embed"]["slides"]) == ["a", "b", "c"]


def test_strings_with_gaps_are_refused(slides, settings, unchanged):
    slides.obs["slide"] = slides.obs["slide"].astype(object)
    slides.obs.loc["cell3", "slide"] = np.nan
    changes = unchanged(slides)
    with pytest.raises(ValueError, match="found 1 missing values: fill them, or remove these cells"):
        ipar.pp.embed(slides, "slide", **settings.hasty)
    assert changes() == set()


@pytest.mark.parametrize("key", [None, "slide"])
def test_a_section_of_few_cells_is_refused(section, fit, settings, unchanged, key):
    few = section[:199].copy()
    changes = unchanged(few)
    for run in (fit, lambda adata, key: ipar.pp.embed(adata, key, **settings.hasty)):
        with pytest.raises(
            ValueError, match="alone needs at least 200 cells.*found 199: add cells, or another section"
        ):
            run(few, key)
    assert changes() == set()
    enough = section[:200].copy()
    ipar.pp.embed(enough, key, **settings.hasty)
    assert enough.obs["ipar_part"].nunique() == 3


def test_all_that_is_written_survives_a_file(alone, tmp_path):
    train = alone.train.copy()
    predict_coords(train, reference="section", progress=False)
    map_to_reference(train, progress=False)
    train.write_h5ad(tmp_path / "section.h5ad")
    back = ad.read_h5ad(tmp_path / "section.h5ad")
    assert set(back.obsm) == set(train.obsm)
    assert set(back.obs) == set(train.obs)
    assert set(back.uns) == set(train.uns)
    assert set(back.uns["ipar"]) == set(train.uns["ipar"])
    for key in ("X_ipar", "X_ipar_reference", "ipar_map_reference"):
        assert np.array_equal(back.obsm[key], train.obsm[key])
        assert back.obsm[key].dtype == train.obsm[key].dtype
    assert (back.obsm["ipar_map"] != train.obsm["ipar_map"]).nnz == 0
    assert (back.obs["ipar_part"] == train.obs["ipar_part"]).all()
    for record in ("prediction", "map"):
        kept, written = (one.uns["ipar"][record] for one in (back, train))
        assert kept.keys() == written.keys()
    frames = back.uns["ipar"]["prediction"]["placement"]["frames"]
    assert frames.keys() == {"slide", "certainty", "oriented", "decided", "mirrored"}
    again = predict_coords(back, reference="section", progress=False, copy=True)
    assert np.array_equal(again.obsm["X_ipar_reference"], train.obsm["X_ipar_reference"])


def test_coordinates_in_other_units_are_the_reference_as_they_are(section, fit):
    section.obsm["spatial"] = section.obsm["spatial"] * [1e4, -1e4] + 3e7
    model = fit(section)
    assert np.array_equal(model.reference.slide().coords, section.obsm["spatial"])


def test_a_model_without_reference_is_smaller_and_predicts(alone, section, fit, tmp_path, unchanged):
    kept = fit(section)
    left_out = fit(section, keep_reference=False)
    assert left_out.reference is None
    for name, model in (("with", kept), ("without", left_out)):
        model.save(tmp_path / name)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("with", "without")}
    assert sizes["without"] < sizes["with"]
    loaded, query = ipar.load(tmp_path / "without"), alone.query.copy()
    predict_coords(query, loaded, progress=False)
    assert np.isfinite(query.obsm["X_ipar"]).all()
    changes = unchanged(query)
    for run in (predict_coords, map_to_reference):
        with pytest.raises(ValueError, match="keeps no reference: fit it with keep_reference=True"):
            run(query, loaded, reference="section", progress=False)
    assert changes() == set()
