"""Prediction on a reference slide: frame, units, transport, and what is written."""

from __future__ import annotations

import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist

import ipar
from ipar.tl import FrameWarning, map_to_reference, predict_coords


@pytest.fixture
def query(alone):
    return alone.query.copy()


@pytest.fixture
def place(alone):
    """Predict on the section; gives the coordinates there."""

    def run(adata, model=None, **options):
        options = {"reference": "section", "progress": False} | options
        predict_coords(adata, model or alone.model, **options)
        return adata.obsm["X_ipar_reference"]

    return run


def radius(x):
    return float(np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean()))


def error(found, truth):
    """RMS distance in radii of the tissue."""
    return float(np.sqrt(np.square(found - truth).sum(axis=1).mean()) / radius(truth))


def moved_reference(model, change):
    """The model as if the coordinates of its section had been others."""
    slides = tuple(replace(slide, coords=change(slide.coords)) for slide in model.reference.slides)
    return replace(model, reference=replace(model.reference, slides=slides))


def test_what_is_written(query, alone, place, unchanged, global_random_state):
    changes = unchanged(query)
    found = place(query)
    expected = predict_coords(alone.query, alone.model, progress=False, copy=True)
    assert {("obsm", "X_ipar_reference"), ("obs",), ("obsm", "X_ipar")} <= changes()
    assert found.shape == (150, 2)
    assert found.dtype == np.float64
    assert np.array_equal(query.obsm["X_ipar"], expected.obsm["X_ipar"])  # which the reference does not touch
    confidence = query.obs["ipar_map_confidence"]
    assert confidence.dtype == np.float32
    assert confidence.between(0, 1).all()
    placement = query.uns["ipar"]["prediction"]["placement"]
    assert (placement["reference"], placement["transport"]) == ("section", 0.0)
    assert list(placement["frames"]["slide"]) == ["all"]
    place(query, key_added="X_second")
    assert "X_second_reference" in query.obsm


def test_expected_errors_in_units_of_the_reference(query, alone, place):
    """A frame of other units carries them along, and the radius is that of the layout as it lies on the reference."""
    place(query)
    error = query.obs["ipar_uncertainty_reference"].to_numpy()
    unit = error / query.obs["ipar_uncertainty"].to_numpy()
    np.testing.assert_allclose(unit, unit[0], rtol=1e-4)
    assert 0.5 < unit[0] / radius(query.obsm["X_ipar_reference"]) < 1.5
    place(query, moved_reference(alone.model, lambda x: 1e4 * x))
    np.testing.assert_allclose(query.obs["ipar_uncertainty_reference"], 1e4 * error, rtol=1e-3)
    predict_coords(query, alone.model, progress=False)
    assert "ipar_uncertainty_reference" not in query.obs


def test_cells_lie_where_they_came_from(query, place):
    truth = query.obsm["spatial"]
    found = place(query)
    shape = procrustes(truth, query.obsm["X_ipar"])[2] ** 0.5  # what the best similarity would leave
    assert error(found, truth) < min(0.6, 1.3 * shape)


def test_coordinates_of_a_prediction_that_was_replaced_are_gone(query, alone, place):
    place(query)
    predict_coords(query, alone.model, progress=False)
    assert "X_ipar_reference" not in query.obsm
    assert "placement" not in query.uns["ipar"]["prediction"]


@pytest.mark.parametrize(("mirrored", "transport"), [(False, 0.5), (True, 0.0), (True, 1.0)])
def test_another_frame_and_other_units_carry_the_result_along(query, alone, place, mirrored, transport):
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]]) * [-1.0 if mirrored else 1.0, 1.0]

    def change(x):
        return 1e4 * x @ turn + [3e8, -7e6]

    expected = place(query.copy(), transport=transport)
    found = place(query, moved_reference(alone.model, change), transport=transport)
    # which place a cell goes to is a matter of rounding for a few
    gap = np.linalg.norm(found - change(expected), axis=1) / (1e4 * radius(expected))
    assert np.quantile(gap, 0.95) < 1e-3
    frames = query.uns["ipar"]["prediction"]["placement"]["frames"]
    plain = alone.query.copy()
    place(plain)
    assert frames["mirrored"][0] == (plain.uns["ipar"]["prediction"]["placement"]["frames"]["mirrored"][0] ^ mirrored)


def test_full_transport_puts_every_cell_on_a_place(make_slides, alone, place):
    cells = make_slides(("q",), n_cells=520, turned=False, seed=4)
    places = alone.model.reference.slide().coords
    gap = cdist(place(cells, transport=1.0), places)
    assert gap.min(axis=1).max() < 1e-6
    held = np.bincount(gap.argmin(axis=1), minlength=len(places))
    assert held.max() - held[held > 0].min() <= 1
    assert (held > 0).mean() > 0.75  # but for places at the edge, which no cell is near
    gap = cdist(place(cells, transport=0.0), places)
    assert np.median(gap.min(axis=1)) > 1e-3


def test_transport_spreads_cells_over_the_tissue(query, alone, place):
    places = {t: place(query.copy(), transport=t) for t in (0.0, 0.5, 1.0)}
    tissue = alone.model.reference.slide().coords
    far = {t: np.median(cdist(tissue, found).min(axis=1)) for t, found in places.items()}
    assert far[1.0] < far[0.5] < far[0.0]  # from a place of the tissue to the nearest cell


def test_the_order_of_cells_does_not_matter(query, place):
    order = np.random.default_rng(0).permutation(150)
    shuffled = query[order].copy()
    expected = place(query, transport=0.0, sharpen=False)
    found = place(shuffled, transport=0.0, sharpen=False)
    np.testing.assert_allclose(found, expected[order], atol=0.02 * radius(expected))
    np.testing.assert_allclose(
        shuffled.obs["ipar_map_confidence"], query.obs["ipar_map_confidence"].iloc[order], atol=0.01
    )


def test_slides_of_a_query_come_into_one_frame(make_slides, place):
    both = make_slides(("q", "r"), n_cells=150, seed=3)  # each turned in its own way
    place(both, library_key="slide")
    flat = make_slides(("q", "r"), n_cells=150, seed=3, turned=False)
    frames = both.uns["ipar"]["prediction"]["placement"]["frames"]
    assert list(frames["slide"]) == ["q", "r"]
    for i, name in enumerate("qr"):
        own = (both.obs["slide"] == name).to_numpy()
        truth = flat.obsm["spatial"][own] - 1000.0 * i
        assert error(both.obsm["X_ipar_reference"][own], truth) < 0.7
        single = both[own].copy()
        place(single)
        np.testing.assert_allclose(
            single.obsm["X_ipar_reference"], both.obsm["X_ipar_reference"][own], atol=0.1 * radius(truth)
        )


def test_any_slide_of_several_is_a_reference(fitted, query):
    found = {}
    for name in "abc":
        predict_coords(query, fitted.model, reference=name, progress=False)
        found[name] = query.obsm["X_ipar_reference"]
        own = fitted.train.obsm["spatial"][fitted.train.obs["slide"] == name]
        low, high = own.min(axis=0) - radius(own), own.max(axis=0) + radius(own)
        assert ((found[name] > low) & (found[name] < high)).all()
    assert not np.allclose(found["a"], found["b"], atol=100)


@pytest.mark.parametrize("run", [predict_coords, map_to_reference])
def test_a_reference_that_is_not_there_is_named_with_those_that_are(fitted, query, unchanged, run):
    changes = unchanged(query)
    with pytest.raises(
        ValueError, match=r"must name a training slide of the model, found 'z': choose one of \['a', 'b', 'c'\]"
    ):
        run(query, fitted.model, reference="z", progress=False)
    assert changes() == set()


@pytest.mark.parametrize("transport", [-0.5, 1.5])
def test_a_transport_that_is_no_share_changes_nothing(query, alone, unchanged, transport):
    changes = unchanged(query)
    with pytest.raises(ValueError, match="transport must lie between 0 and 1, found"):
        predict_coords(query, alone.model, reference="section", transport=transport, progress=False)
    assert changes() == set()


def test_a_generative_model_has_no_reference(generated, query, unchanged):
    changes = unchanged(query)
    with pytest.raises(ValueError, match="is an IGA, which has no reference: leave out"):
        predict_coords(query, generated.model, reference="a", progress=False)
    assert changes() == set()


@pytest.mark.parametrize("n", [1, 3])
def test_few_cells_are_placed_without_a_layout(query, place, tmp_path, n):
    few = query[:n].copy()
    found = place(few)
    assert np.isnan(few.obsm["X_ipar"]).all()
    assert np.isfinite(found).all()
    assert few.uns["ipar"]["attention"] == {}
    few.write_h5ad(tmp_path / "few.h5ad")
    assert np.array_equal(ad.read_h5ad(tmp_path / "few.h5ad").obsm["X_ipar_reference"], found)


def test_a_small_slide_beside_a_large_one(query, place):
    query.obs["part"] = np.where(np.arange(150) < 2, "few", "many")
    found = place(query, library_key="part")
    assert np.isnan(query.obsm["X_ipar"][:2]).all()
    assert np.isfinite(query.obsm["X_ipar"][2:]).all()
    assert np.isfinite(found).all()
    assert list(query.uns["ipar"]["prediction"]["placement"]["frames"]["slide"]) == ["many"]


def test_a_frame_that_is_not_decided_is_warned_of_and_recorded(make_slides, settings):
    """A tissue whose expression does not tell left from right."""
    train = make_slides(("s",), n_cells=400, mirrored=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ipar.pp.embed(train, **settings.hasty)
        model = ipar.tl.fit_ipalite(train, **settings.fit)
    cells = make_slides("tuvw", n_cells=150, mirrored=True, seed=10)
    with pytest.warns(
        FrameWarning,
        match=r"turned or mirrored on reference 'section' cannot be told: on held-out cells .* the sides of the tissue \(orient.*0\.8 is",
    ) as said:
        predict_coords(cells, model, reference="section", library_key="slide", progress=False)
    said = [one for one in said if one.category is FrameWarning]
    assert [one.filename for one in said] == [__file__]
    frames = cells.uns["ipar"]["prediction"]["placement"]["frames"]
    assert list(frames["slide"]) == list("tuvw")
    assert not frames["decided"].any()
    assert (frames["oriented"] == train.uns["ipar"]["localisability"]["oriented"]).all()


def test_a_layout_that_fits_in_no_way_is_warned_of(make_slides, alone):
    """Slides of a few cells each, which have hardly a shape."""
    mixed = make_slides("tuvwxy", n_cells=8, seed=10)
    with pytest.warns(FrameWarning, match=r"cannot be told: another orientation matches .*, 0\.95 is needed") as said:
        predict_coords(mixed, alone.model, reference="section", library_key="slide", progress=False)
    frames = mixed.uns["ipar"]["prediction"]["placement"]["frames"]
    assert np.array_equal(frames["decided"], frames["certainty"] >= 0.95)
    assert not frames["decided"].all()
    warning = next(one for one in said if one.category is FrameWarning)
    named = str(warning.message).split(" is turned")[0].removeprefix("How ")
    assert named == ", ".join(np.array(list("tuvwxy"))[~frames["decided"]])


def test_a_frame_that_is_decided_is_not_warned_of(query, place):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FrameWarning)
        place(query)
    assert query.uns["ipar"]["prediction"]["placement"]["frames"]["decided"].all()
