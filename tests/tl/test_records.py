"""Results speak of cells and of one model: after sorting, subsetting, concatenating, and another model."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import ipar

QUIET = {"progress": False}


def predicted(query, model):
    ipar.tl.predict_coords(query, model, **QUIET)
    return query


def said(adata, model):
    return [one for one in ipar.tl.report(adata, model)["summary"] if "prediction was made of" in one]


def test_sorted_cells_are_those_of_the_record(query, model):
    moved = predicted(query, model)[np.random.default_rng(0).permutation(query.n_obs)].copy()
    assert said(moved, model) == []
    ipar.tl.predict_regions(moved, model, **QUIET)


def test_a_subset_is_told_of_and_has_no_regions(query, model):
    part = predicted(query, model)[:60].copy()
    assert len(said(part, model)) == 1
    assert "made of 120 cells, and adata has 60" in said(part, model)[0]
    with pytest.raises(ValueError, match="n_cells.*call ipar.tl.predict_coords"):
        ipar.tl.predict_regions(part, model, **QUIET)


def test_as_many_other_cells_are_not_taken_for_those_of_the_record(query, model):
    other = predicted(query, model).copy()
    other.obs_names = [f"other{i}" for i in range(other.n_obs)]
    both = ad.concat([query[:60], other[60:]], uns_merge="first")
    assert both.n_obs == 120
    assert len(said(both, model)) == 1
    with pytest.raises(ValueError, match="cells_digest.*call ipar.tl.predict_coords"):
        ipar.tl.predict_regions(both, model, **QUIET)


def test_slides_of_the_record_have_their_numbers_of_cells(train, model):
    part = train[:300].copy()
    ipar.tl.predict_coords(part, model, library_key="slide", **QUIET)
    slides = part.uns["ipar"]["prediction"]["slides"]
    assert dict(zip(slides["slide"], slides["n_cells"], strict=True)) == {"a": 120, "b": 120, "c": 60}


def test_an_embedding_of_its_training_stays(train, model, unchanged):
    before = train.obsm["X_ipar_embed"].copy()
    predicted(train, model)
    assert (train.obsm["X_ipar_embed"] == before).all()
    assert "ipar_embed" in train.uns


@pytest.mark.parametrize(
    ("place", "options"), [(ipar.tl.predict_coords, {}), (ipar.tl.sample_coords, {"n_samples": 2, "n_steps": 2})]
)
def test_an_embedding_of_another_model_is_replaced(train, generated, place, options):
    train = train[np.arange(train.n_obs) % 4 == 0].copy()
    train.obsm["X_ipar_embed"] = train.obsm["X_ipar_embed"] + 1
    train.uns["ipar_embed"]["encoder"]["arrays"] = {
        name: values + 1
        for name, values in train.uns["ipar_embed"]["encoder"]["arrays"].items()
        if values.dtype.kind == "f"
    }
    place(train, generated.model, library_key="slide", **options, **QUIET)
    expected = ipar.pp.embed(train, "slide", model=generated.model, copy=True, **QUIET).obsm["X_ipar_embed"]
    assert np.allclose(train.obsm["X_ipar_embed"], expected)
    assert "ipar_embed" not in train.uns  # so that no fit takes it for that of its slides
    assert "X_ipar_embed_global" not in train.obsm
    assert "ipar_candidates" not in train.uns  # a graph of the embedding that was replaced


def test_a_fit_takes_no_embedding_of_other_cells(train, settings):
    fewer = train[np.r_[0:110, 120:230, 240:350]].copy()
    with pytest.raises(RuntimeError, match="trained"):
        _fit_that_may_not_train(fewer, settings)
    _fit_that_may_not_train(train, settings)


def _fit_that_may_not_train(adata, settings):
    def refuse(*_args, **_options):
        raise RuntimeError("trained")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ipar.tl._training.embed_slides", refuse)
        ipar.tl.fit_ipalite(adata, "slide", **settings.fit)
