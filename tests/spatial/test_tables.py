"""SpatialData gives what its table gives, with coordinates and outlines joined by the ids of instances."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from spatialdata.models import PointsModel, TableModel
from spatialdata.transformations import Identity, get_transformation

import ipar
from tests.spatial.conftest import LAYOUTS, spots


def test_a_prediction_is_that_of_the_table(layout, model):
    expected, elements = layout.table.copy(), {name: one for _, name, one in layout.sdata.gen_elements()}
    ipar.tl.predict_coords(expected, model, progress=False)
    assert ipar.tl.predict_coords(layout.sdata, model, table_key=layout.table_key, progress=False) is None
    assert layout.table is elements[layout.table_key]
    assert np.array_equal(layout.table.obsm["X_ipar"], expected.obsm["X_ipar"])
    assert all(one is elements[name] for _, name, one in layout.sdata.gen_elements())
    read = ipar.get.coords(layout.sdata, table_key=layout.table_key)
    assert np.allclose(read, expected.obsm["X_ipar"])


def test_coordinates_come_from_a_coordinate_system(layout):
    expected = layout.table.copy()
    for system in layout.frames:
        expected.obsm["spatial"] = layout.places(system)
        ipar.pp.cell_ellipses(expected)
        before = layout.table.obsm["spatial"].copy()
        ipar.pp.cell_ellipses(layout.sdata, table_key=layout.table_key, coordinate_system=system)
        assert np.allclose(layout.table.obsm["ellipse"], expected.obsm["ellipse"], atol=1e-2)
        assert np.array_equal(layout.table.obsm["spatial"], before)


def test_coordinates_that_are_missing_come_from_the_elements(layout):
    expected = layout.table.copy()
    expected.obsm["spatial"] = layout.places(next(iter(layout.frames)))  # of the element's own name, or global
    ipar.pp.cell_ellipses(expected)
    del layout.table.obsm["spatial"]
    named = {} if layout.table_key == "table" else {"coordinate_system": "tissue"}
    ipar.pp.cell_ellipses(layout.sdata, table_key=layout.table_key, **named)
    assert np.allclose(layout.table.obsm["ellipse"], expected.obsm["ellipse"], atol=1e-2)
    assert "spatial" not in layout.table.obsm


@pytest.mark.parametrize("asked", [False, True])
def test_outlines_are_joined_by_the_ids_of_instances(layout, asked):
    """Elements are shuffled, and the radii of cells differ: by order, most ellipses would be wrong."""
    system = list(layout.frames)[-1]
    named = {"coordinate_system": system} if asked else {}
    ipar.pp.cell_ellipses(layout.sdata, shapes_key=layout.outlines, table_key=layout.table_key, **named)
    found = layout.table.obsm["ellipse"]
    expected = layout.centres(system) - layout.places(system) if asked else np.zeros((len(found), 2))
    gain = np.linalg.det(layout.frames[system][:2, :2]) if asked else 1.0
    square = np.pi / 3 if "square" in layout.outlines else 1.0  # its moments are those of a larger ellipse
    assert np.allclose(found[:, :2], expected, atol=2e-2)
    assert np.allclose(4 * np.pi * found[:, 2] * found[:, 3], layout.areas * gain * square, rtol=1e-2)


def test_a_copy_is_another_object_with_the_same_elements(xenium, unchanged):
    del xenium.table.obsm["spatial"]
    tell = unchanged(xenium.table)
    found = ipar.pp.cell_ellipses(xenium.sdata, copy=True)
    assert isinstance(found, sd.SpatialData)
    assert tell() == set()
    assert found["cell_circles"] is xenium.sdata["cell_circles"]
    assert set(found["table"].obsm) == {"X_other", "ellipse"}  # coordinates were lent


def test_what_fails_leaves_no_coordinates(xenium, unchanged):
    del xenium.table.obsm["spatial"]
    tell = unchanged(xenium.table)
    with pytest.raises(ValueError, match="at least 3 in 2 dimensions"):
        ipar.pp.cell_ellipses(xenium.sdata, n_neighbors=2)
    assert tell() == set()


def test_sections_are_slides(two_sections, settings):
    """Each has a coordinate system of its own name, and none is global."""
    table = two_sections["table"].copy()
    del two_sections["table"].obsm["spatial"]
    model = ipar.tl.fit_ipalite(two_sections, **settings.fit)
    assert model.record["library_key"] == "region"
    ipar.tl.predict_coords(two_sections, model, progress=False)
    ipar.tl.predict_coords(table, model, library_key="region", progress=False)
    found = two_sections["table"]
    assert np.array_equal(found.obsm["X_ipar"], table.obsm["X_ipar"])
    assert found.uns["ipar"]["prediction"]["slides"]["slide"].tolist() == ["a", "b"]
    ipar.pp.cell_ellipses(two_sections, shapes_key=["a", "b"])
    assert np.allclose(found.obsm["ellipse"][:, 2], 27.5 / 2)
    with pytest.raises(ValueError, match="sdata\\['b'\\] has no coordinate system 'a', found \\['b'"):
        ipar.pp.cell_ellipses(two_sections, coordinate_system="a")


def test_points_in_three_dimensions(query):
    rng = np.random.default_rng(0)
    places = rng.normal(size=(query.n_obs, 3))
    frame = pd.DataFrame(places, columns=["x", "y", "z"], index=query.obs_names).sort_index()
    query.obs["cell"], query.obs["region"] = query.obs_names, pd.Categorical(["cells"] * query.n_obs)
    table = TableModel.parse(query, region="cells", region_key="region", instance_key="cell")
    points = PointsModel.parse(frame, transformations={"microscope": Identity()})
    sdata = sd.SpatialData(points={"cells": points}, tables={"table": table})
    expected = query.copy()
    expected.obsm["spatial"] = places
    ipar.pp.cell_ellipses(expected)
    ipar.pp.cell_ellipses(sdata, coordinate_system="microscope")
    assert np.allclose(table.obsm["ellipse"], expected.obsm["ellipse"], atol=1e-5)


def test_a_matrix_of_dask_stays_where_it_is(xenium, model):
    expected = xenium.table.copy()
    ipar.tl.predict_coords(expected, model, progress=False)
    xenium.table.X = da.from_array(xenium.table.X.toarray(), chunks=(50, -1))
    ipar.tl.predict_coords(xenium.sdata, model, progress=False)
    assert hasattr(xenium.table.X, "dask")
    assert np.array_equal(xenium.table.obsm["X_ipar"], expected.obsm["X_ipar"])


def test_cells_beside_a_section_need_no_coordinates(train, query, model):
    """The section is in a coordinate system, and cells of another table annotate nothing."""
    section, cells = spots(train[train.obs["slide"] == "a"].copy()), sd.SpatialData(tables={"table": query})
    ipar.tl.predict_coords(cells, model, reference="a", progress=False)
    for system in section.frames:
        figure = ipar.pl.on_reference(cells, section.sdata, coordinate_system=system, return_fig=True)
        drawn = [np.asarray(one.get_offsets()) for axes in figure.axes for one in axes.collections]
        assert any(np.allclose(one, section.places(system)) for one in drawn if len(one) == section.table.n_obs)
    plt.close("all")


def test_points_of_a_reference_are_in_its_coordinate_system(xenium, model):
    ipar.tl.predict_coords(xenium.sdata, model, reference="a", progress=False)
    xenium.table.obsm["X_ipar_reference"][3] = np.nan
    found = ipar.get.points(xenium.sdata, "X_ipar_reference", to_coordinate_system="global")
    assert list(get_transformation(found, get_all=True)) == ["global"]
    assert len(found) == xenium.table.n_obs - 1
    assert "cell3" not in found["cell"].compute().tolist()


def test_a_picture_of_a_table(xenium, model):
    ipar.tl.predict_coords(xenium.sdata, model, progress=False)
    figure = ipar.pl.coords(xenium.sdata, return_fig=True)
    assert figure.axes[0].get_title() == "truth"
    turned = ipar.pl.coords(xenium.sdata, coordinate_system="global", return_fig=True)
    drawn = [np.asarray(one.axes[0].collections[0].get_offsets()) for one in (figure, turned)]
    assert np.allclose(drawn[1] * 0.2125, drawn[0], atol=0.5)
    plt.close("all")


def test_tables_that_annotate_nothing(query, model):
    sdata = sd.SpatialData(tables={"cells": query})
    ipar.tl.predict_coords(sdata, model, table_key="cells", progress=False)
    ipar.pl.coords(sdata, table_key="cells", return_fig=True)  # with the coordinates that it has
    plt.close("all")
    with pytest.raises(ValueError, match="annotates no element.*set_table_annotates_spatialelement"):
        ipar.pp.cell_ellipses(sdata, table_key="cells", coordinate_system="global")
    del sdata["cells"].obsm["spatial"]
    with pytest.raises(KeyError, match="no 'spatial'"):
        ipar.pp.cell_ellipses(sdata, table_key="cells")


def without_shapes(layout):
    del layout.sdata.shapes["cell_circles"]


def fewer_shapes(layout):
    layout.sdata["cell_circles"] = layout.sdata["cell_circles"].drop(index="cell3-1")


def shapes_twice(layout):
    circles = layout.sdata["cell_circles"]
    layout.sdata["cell_circles"] = pd.concat([circles, circles.iloc[:1]])


def no_column(layout):
    del layout.table.obs["cell_id"]


def numbers(layout):
    layout.table.obs["cell_id"] = np.arange(layout.table.n_obs)


@pytest.mark.parametrize(
    ("spoil", "options", "error", "says"),
    [
        (
            None,
            {"table_key": "cells"},
            KeyError,
            r"no table 'cells', found \['table'\]: name one of these as table_key",
        ),
        (None, {"table_key": 3}, TypeError, "table_key must be a string, found 3"),
        (None, {"coordinate_system": "tissue"}, ValueError, r"no coordinate system 'tissue', found \['global'\]: pass"),
        (None, {"coordinate_system": 3}, TypeError, "coordinate_system must be a string or None"),
        (without_shapes, {"coordinate_system": "global"}, KeyError, r"no element 'cell_circles', found \['cell_bound"),
        (without_shapes, {}, KeyError, "obsm has no 'spatial'"),
        (
            fewer_shapes,
            {},
            ValueError,
            "1 of 120 cells.*no instance in sdata\\['cell_circles'\\], the first of id 'cell3-1'",
        ),
        (shapes_twice, {}, ValueError, "sdata\\['cell_circles'\\] has several instances of one id, such as"),
        (no_column, {}, KeyError, "no column 'cell_id' in obs.*set_table_annotates_spatialelement"),
        (numbers, {}, ValueError, "120 of 120 cells.*the first of id 0, where ids are such as 'cell"),
        (None, {"shapes_key": "nuclei"}, KeyError, r"no element 'nuclei', found \['cell_boundaries', 'cell_circles'\]"),
        (None, {"shapes_key": "table"}, ValueError, "must be shapes, found AnnData"),
        (None, {"shapes_key": "cell_circles", "shapes": []}, ValueError, "shapes_key must be given.*without shapes"),
    ],
)
def test_errors_say_what_there_is(xenium, unchanged, spoil, options, error, says):
    del xenium.table.obsm["spatial"]
    if spoil is not None:
        spoil(xenium)
    tell = unchanged(xenium.table)
    with pytest.raises(error, match=says):
        ipar.pp.cell_ellipses(xenium.sdata, **options)
    assert tell() == set()


def test_several_coordinate_systems_are_named(query):
    sdata = LAYOUTS["Visium HD"](query).sdata
    del sdata["square_008um"].obsm["spatial"]
    with pytest.raises(
        ValueError, match=r"coordinate systems \['tissue', 'tissue_downscaled_hires'\]: pass one of these"
    ):
        ipar.pp.cell_ellipses(sdata, table_key="square_008um")


@pytest.mark.parametrize(("own", "other", "n"), [("008", "016", 120), ("016", "008", 60)])
def test_numbers_of_other_bins_are_not_taken_for_ids(query, own, other, n):
    """Cells of one size of bins, and squares of another: both are numbered from 0."""
    sdata = LAYOUTS["Visium HD"](query).sdata
    key, shapes_key = f"square_{own}um", f"tissue_square_{other}um"
    with pytest.raises(ValueError, match=f"{n} of {n} cells of the table have no instance"):
        ipar.pp.cell_ellipses(sdata, shapes_key=shapes_key, table_key=key)
    with pytest.raises(ValueError, match=f"must hold the name of every cell once, found 0 of {n} in {180 - n}"):
        ipar.pp.cell_ellipses(sdata[key], sdata[shapes_key])
    ipar.pp.cell_ellipses(sdata, shapes_key=f"tissue_{key}", table_key=key)
    expected = sdata[key].obsm.pop("ellipse")
    ipar.pp.cell_ellipses(sdata[key], sdata[f"tissue_{key}"])
    assert np.array_equal(sdata[key].obsm["ellipse"], expected)


def test_cells_that_annotate_nothing_are_told(xenium):
    xenium.table.obs["region"] = xenium.table.obs["region"].where(np.arange(120) != 7)
    with pytest.raises(ValueError, match="1 cells of the table annotate no element in obs"):
        ipar.pp.cell_ellipses(xenium.sdata, coordinate_system="global")


def test_options_of_tables_are_not_for_anndata(query):
    with pytest.raises(ValueError, match="table_key must be given for a SpatialData only"):
        ipar.pp.cell_ellipses(query, table_key="table")
    with pytest.raises(ValueError, match="shapes_key must be given for a SpatialData"):
        ipar.pp.cell_ellipses(query, shapes_key="cells")


def test_outlines_of_an_anndata_are_joined_or_refused(xenium):
    table, outlines = xenium.table, xenium.sdata["cell_boundaries"]
    ipar.pp.cell_ellipses(xenium.sdata, shapes_key="cell_boundaries")
    expected = table.obsm.pop("ellipse")
    ipar.pp.cell_ellipses(table, outlines)  # by the ids of instances
    assert np.array_equal(table.obsm["ellipse"], expected)
    with pytest.raises(ValueError, match=r"found 0 of 120 in 120 outlines: set shapes.index, or pass list\("):
        ipar.pp.cell_ellipses(table, outlines.reset_index(drop=True))


def test_every_function_on_anndata_takes_spatialdata():
    for module in (ipar.pp, ipar.tl, ipar.pl, ipar.get):
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isfunction(function):
                continue
            parameters = inspect.signature(function).parameters
            hints = [one.annotation for one in parameters.values() if "AnnData" in one.annotation]
            assert ("table_key" in parameters) == bool(hints), name
            assert all("AnnData | SpatialData" in hint for hint in hints)
            located = "spatial_key" in parameters or name == "ellipses"
            assert ("coordinate_system" in parameters) == (bool(hints) and located), name


def test_spatialdata_is_not_imported():
    sources = Path(ipar.__file__).parent.rglob("*.py")
    assert [
        one.name for one in sources if re.search(r"^(from|import) spatialdata", one.read_text(), re.MULTILINE)
    ] == []


def test_results_survive_the_disk(xenium, model, tmp_path):
    ipar.tl.predict_coords(xenium.sdata, model, progress=False)
    ipar.pp.cell_ellipses(xenium.sdata, shapes_key="cell_boundaries")
    xenium.sdata.write(tmp_path / "cells.zarr")
    again = sd.read_zarr(tmp_path / "cells.zarr")
    assert np.array_equal(again["table"].obsm["X_ipar"], xenium.table.obsm["X_ipar"])
    assert len(ipar.get.record(again)) == len(ipar.get.record(xenium.sdata))
