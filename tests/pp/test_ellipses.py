from __future__ import annotations

import anndata as ad
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from scipy.spatial.transform import Rotation

import ipar
from ipar.geometry.ellipses import ellipse_table, ellipses_of_rigid, rigid_of_ellipses

N = 12


def cells(n=N, d=2, seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.ones((n, 3), dtype=np.float32))
    adata.obs_names = [f"cell{i}" for i in range(n)]
    adata.obsm["spatial"] = rng.uniform(5000, 6000, size=(n, d))
    return adata


def drawn(adata, seed=1):
    """Ellipses as polygons, and the table that describes them."""
    rng = np.random.default_rng(seed)
    n = adata.n_obs
    major, minor = rng.uniform(6, 12, n), rng.uniform(2, 5, n)
    angle, offset = rng.uniform(-1.5, 1.5, n), rng.normal(scale=2, size=(n, 2))
    round_about = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    unit = np.stack([np.cos(round_about), np.sin(round_about)], axis=-1)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    local = unit * np.stack([major, minor], -1)[:, None]
    polygons = local @ turn.transpose(0, 2, 1) + (adata.obsm["spatial"] + offset)[:, None]
    return polygons, np.column_stack([offset, major / 2, minor / 2, angle])


@pytest.mark.parametrize("kind", ["arrays", "clockwise", "geopandas", "shuffled", "series", "pieces"])
def test_polygon_to_ellipse_and_back(kind):
    adata = cells()
    polygons, expected = drawn(adata)
    shapes = list(polygons)
    if kind == "clockwise":
        shapes = [polygon[::-1] for polygon in shapes]
    elif kind != "arrays":
        outlines = [shapely.Polygon(polygon) for polygon in shapes]
        if kind == "pieces":  # cut across: a multipolygon of two halves
            left = [shapely.box(-1e5, -1e5, x, 1e5) for x in adata.obsm["spatial"][:, 0]]
            outlines = [
                shapely.MultiPolygon([o.intersection(half), o.difference(half)])
                for o, half in zip(outlines, left, strict=True)
            ]
        shapes = geopandas.GeoSeries(outlines, index=adata.obs_names)
        if kind != "series":
            shapes = geopandas.GeoDataFrame(geometry=shapes)
        if kind == "shuffled":
            shapes = shapes.sample(frac=1, random_state=0)
    ipar.pp.cell_ellipses(adata, shapes)
    found = adata.obsm["ellipse"]
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-3, atol=2e-3)
    record = adata.uns["ellipse"]
    assert record["units"] == "those of obsm['spatial']"
    assert list(record["columns"]) == ["offset_x", "offset_y", "sd_major", "sd_minor", "angle"]
    assert record["method"] == "shapes"


def test_holes_circles_and_squares():
    adata = cells(4)
    middle = [shapely.Point(*place) for place in adata.obsm["spatial"]]
    circles = geopandas.GeoDataFrame({"radius": [2.0, 4.0, 6.0, 8.0]}, geometry=middle, index=adata.obs_names)
    ipar.pp.cell_ellipses(adata, circles)
    assert np.allclose(adata.obsm["ellipse"][:, 2:4], np.array([[1.0], [2.0], [3.0], [4.0]]))
    assert np.allclose(adata.obsm["ellipse"][:, :2], 0, atol=1e-6)
    rings = [
        shapely.box(p.x - 6, p.y - 6, p.x + 6, p.y + 6).difference(shapely.box(p.x - 3, p.y - 3, p.x + 3, p.y + 3))
        for p in middle
    ]
    ipar.pp.cell_ellipses(adata, geopandas.GeoSeries(rings, index=adata.obs_names))
    variance = (12**4 - 6**4) / 12 / (12**2 - 6**2)
    assert np.allclose(adata.obsm["ellipse"][:, 2:4], np.sqrt(variance))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("form", ["full", "packed", "key"])
def test_moments_give_them_back(d, form):
    adata, rng = cells(d=d), np.random.default_rng(2)
    factor = rng.normal(size=(N, d, d))
    covariance = factor @ factor.transpose(0, 2, 1)
    rows, columns = np.triu_indices(d)
    adata.obsm["second"] = covariance[:, rows, columns]
    moments = {"full": covariance, "packed": adata.obsm["second"], "key": "second"}[form]
    ipar.pp.cell_ellipses(adata, moments=moments)
    table = torch.from_numpy(adata.obsm["ellipse"])
    assert table.shape == (N, 5 if d == 2 else 9)
    found = rigid_of_ellipses(torch.zeros(N, d), table).to_global()[1]
    assert np.allclose(found.numpy(), covariance, rtol=1e-3, atol=1e-3)
    assert (np.diff(table[:, d : 2 * d].numpy(), axis=1) <= 0).all()  # the longest axis first


@pytest.mark.parametrize("d", [2, 3])
def test_nearest_spots_against_numpy_and_within_slides(d):
    adata = cells(60, d)
    adata.obs["slide"] = pd.Categorical(np.repeat(["a", "b"], 30))
    copied = ipar.pp.cell_ellipses(adata, n_neighbors=7, library_key="slide", copy=True)
    assert "ellipse" not in adata.obsm
    table = torch.from_numpy(copied.obsm["ellipse"]).double()
    mean, covariance = rigid_of_ellipses(torch.zeros(60, d).double(), table).to_global()
    for i in (3, 40):
        own = adata.obsm["spatial"][:30] if i < 30 else adata.obsm["spatial"][30:]
        nearest = own[np.argsort(np.linalg.norm(own - adata.obsm["spatial"][i], axis=1))[:8]]
        assert np.allclose(mean[i], nearest.mean(0) - adata.obsm["spatial"][i], atol=1e-2)
        assert np.allclose(covariance[i], np.cov(nearest.T, bias=True), rtol=1e-3, atol=1.0)
    assert copied.uns["ellipse"]["n_neighbors"] == 7


@pytest.mark.parametrize("d", [2, 3])
def test_tables_and_poses(d):
    rng = np.random.default_rng(3)
    factor, offset = rng.normal(size=(N, d, d)), rng.normal(size=(N, d))
    table = torch.from_numpy(ellipse_table(offset, factor @ factor.transpose(0, 2, 1)))
    rigid = rigid_of_ellipses(torch.zeros(N, d).double(), table, 4.0)
    back = ellipses_of_rigid(rigid)
    assert torch.allclose(back[:, : 2 * d], table[:, : 2 * d] / 4)
    assert torch.allclose(back[:, 2 * d :], table[:, 2 * d :], atol=1e-6)
    if d == 3:
        assert np.allclose(rigid.rotation, Rotation.from_rotvec(table[:, 6:]).as_matrix())


def test_written_to_disk_and_back(tmp_path):
    adata = cells()
    ipar.pp.cell_ellipses(adata)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert np.array_equal(again.obsm["ellipse"], adata.obsm["ellipse"])
    assert list(again.uns["ellipse"]["columns"]) == list(adata.uns["ellipse"]["columns"])


def test_other_units_are_noticed():
    adata = cells()
    polygons, _ = drawn(adata)
    with pytest.warns(UserWarning, match="same units and frame"):
        ipar.pp.cell_ellipses(adata, list(polygons * 0.3))


def flat(adata):
    polygons = drawn(adata)[0]
    polygons[3, :, 1] = 0.0
    return {"shapes": list(polygons)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (lambda a: {"shapes": [1], "moments": "m"}, ValueError, "found both"),
        (lambda a: {"shapes": list(drawn(a)[0][:5])}, ValueError, "12 outlines, found 5: pass one per cell"),
        (flat, ValueError, "cell 'cell3' is not usable .*no area.*fix it"),
        (lambda a: {"shapes": [np.zeros((2, 2))] * N}, ValueError, r"cell 'cell0'.*three finite vertices.*\(2, 2\)"),
        (lambda a: {"moments": "m"}, KeyError, "no 'm': name the array"),
        (
            lambda a: {"moments": np.ones((N, 6))},
            ValueError,
            r"\(12, 2, 2\) or, as upper triangles, \(12, 3\), found \(12, 6\)",
        ),
        (
            lambda a: {"moments": -np.tile(np.eye(2), (N, 1, 1))},
            ValueError,
            "found 12 cells without one, the first 'cell0'",
        ),
        (lambda a: {"n_neighbors": 2}, ValueError, "at least 3 in 2 dimensions, found 2"),
        (lambda a: {"spatial_key": "nowhere"}, KeyError, "no 'nowhere'.*spatial_key"),
    ],
)
def test_errors_say_what_to_do(options, error, message):
    adata = cells()
    with pytest.raises(error, match=message):
        ipar.pp.cell_ellipses(adata, **options(adata))
