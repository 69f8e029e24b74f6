"""SpatialData gives what its table gives, with coordinates and outlines joined by the ids of instances."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import spatialdata as sd
from spatialdata.models import PointsModel, TableModel
from spatialdata.transformations import Identity

import ipar


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


def test_outlines_beside_the_annotated_element_need_names_of_cells(layout):
    """Numbers of other bins, or of nuclei, are numbers of something else."""
    if layout.table_key != "square_008um":
        return
    with pytest.raises(ValueError, match="shapes_key|several|have no instance"):
        ipar.pp.cell_ellipses(layout.sdata, shapes_key="tissue_square_016um", table_key="square_008um")
