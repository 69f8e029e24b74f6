"""Small SpatialData objects with the elements, names and ids that readers of spatialdata-io give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import spatialdata as sd
from spatialdata.models import Labels2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity, Scale

PIXEL = 0.2125
AFFINE = np.array([[8.0, 1.0, 300.0], [-1.0, 8.0, -70.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Layout:
    """A SpatialData, and what is known of its cells.

    Attributes
    ----------
    sdata, table_key
        The object, and the name of its table.
    outlines
        Element with the outlines of the cells.
    frames
        By coordinate system, the matrix ``(3, 3)`` that takes outlines there from how they are stored.
    areas
        Areas of the outlines, as they are stored.
    pixels
        Coordinates of the cells where these annotate labels instead of outlines, ``(n, 2)``.
    """

    sdata: sd.SpatialData
    table_key: str
    outlines: str
    frames: dict[str, np.ndarray]
    areas: np.ndarray
    pixels: np.ndarray | None = None

    @property
    def table(self) -> ad.AnnData:
        return self.sdata.tables[self.table_key]

    def centres(self, system: str) -> np.ndarray:
        """Centres of the outlines in a coordinate system."""
        return moved(self.table.obsm["spatial"], self.frames[system])

    def places(self, system: str) -> np.ndarray:
        """Coordinates of the cells in a coordinate system."""
        return self.centres(system) if self.pixels is None else self.pixels


def scaled(factor: float) -> np.ndarray:
    return np.diag([factor, factor, 1.0])


def moved(xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return xy @ frame[:2, :2].T + frame[:2, 2]


def sizes(n: int) -> np.ndarray:
    """Radii that differ from cell to cell, in another order than their names."""
    return np.random.default_rng(5).uniform(2, 9, n)


def shuffled(frame: Any) -> Any:
    """Elements are in another order than the cells of the table."""
    return frame.sample(frac=1, random_state=3)


def spots(adata: ad.AnnData, name: str = "tissue") -> Layout:
    """As ``spatialdata_io.visium``: circles by number, a table by barcode, a system per resolution and none called global."""
    xy, n = adata.obsm["spatial"], adata.n_obs
    systems = {
        name: Identity(),
        f"{name}_downscaled_hires": Scale([0.2, 0.2], axes=("y", "x")),
        f"{name}_downscaled_lowres": Scale([0.06, 0.06], axes=("y", "x")),
    }
    frame = geopandas.GeoDataFrame({"radius": np.full(n, 27.5)}, geometry=geopandas.points_from_xy(*xy.T))
    frame.index.name = "spot_id"
    circles = ShapesModel.parse(shuffled(frame), transformations=systems)
    adata.obs["spot_id"], adata.obs["region"] = np.arange(n), pd.Categorical([name] * n)
    table = TableModel.parse(adata, region=name, region_key="region", instance_key="spot_id")
    sdata = sd.SpatialData(shapes={name: circles}, tables={"table": table})
    frames = {name: scaled(1), f"{name}_downscaled_hires": scaled(0.2), f"{name}_downscaled_lowres": scaled(0.06)}
    return Layout(sdata, "table", name, frames, np.full(n, np.pi * 27.5**2))


def squares(adata: ad.AnnData) -> Layout:
    """As ``spatialdata_io.visium_hd``: tables and squares per size of bins, whose numbers are not those of the other size."""
    shapes, tables = {}, {}
    for size, own in (("square_008um", adata), ("square_016um", adata[::-2].copy())):
        xy = own.obsm["spatial"]
        frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*xy.T).buffer(14.5, cap_style="square"))
        frame.index.name = "location_id"
        systems = {"tissue": Identity(), "tissue_downscaled_hires": Scale([0.1, 0.1], axes=("x", "y"))}
        shapes[f"tissue_{size}"] = ShapesModel.parse(shuffled(frame), transformations=systems)
        own.obs["location_id"] = np.arange(own.n_obs)
        own.obs["region"] = pd.Categorical([f"tissue_{size}"] * own.n_obs)
        tables[size] = TableModel.parse(own, region=f"tissue_{size}", region_key="region", instance_key="location_id")
    frames = {"tissue": scaled(1), "tissue_downscaled_hires": scaled(0.1)}
    areas = np.full(adata.n_obs, 29.0**2)
    return Layout(sd.SpatialData(shapes=shapes, tables=tables), "square_008um", "tissue_square_008um", frames, areas)


def _discs(adata: ad.AnnData, ids: list[str], name: str) -> tuple[Any, np.ndarray]:
    radii = sizes(adata.n_obs)
    discs = geopandas.points_from_xy(*adata.obsm["spatial"].T).buffer(radii)
    frame = geopandas.GeoDataFrame(geometry=discs, index=pd.Index(ids, name=name))
    return shuffled(frame), frame.area.to_numpy()


def cells_as_circles(adata: ad.AnnData, *, labels: bool = False) -> Layout:
    """As ``spatialdata_io.xenium``: circles, or labels of an image, and outlines beside them; all are in micrometres."""
    n, xy = adata.n_obs, adata.obsm["spatial"]
    ids = [f"{name}-1" for name in adata.obs_names]
    outlines, areas = _discs(adata, ids, "cell_id")
    transformation = {"global": Scale([1 / PIXEL, 1 / PIXEL], axes=("x", "y"))}
    adata.obs["cell_id"], region = ids, "cell_labels" if labels else "cell_circles"
    adata.obs["region"] = pd.Categorical([region] * n)
    elements: dict[str, Any] = {"cell_boundaries": ShapesModel.parse(outlines, transformations=transformation)}
    if labels:  # one pixel a cell, in the middle of which the cell lies
        adata.obs["cell_labels"] = np.random.default_rng(1).permutation(n) + 1
        pixels, side = np.zeros((n, 3), dtype=np.int32), np.arange(n)
        pixels[side, side % 3] = adata.obs["cell_labels"]
        elements["cell_labels"] = Labels2DModel.parse(pixels, dims=("y", "x"), transformations={"global": Identity()})
        middles = np.c_[side % 3, side] + 0.5
    else:
        frame = geopandas.GeoDataFrame(
            {"radius": sizes(n)}, geometry=geopandas.points_from_xy(*xy.T), index=pd.Index(ids, name="cell_id")
        )
        elements["cell_circles"] = ShapesModel.parse(shuffled(frame), transformations=transformation)
        middles = None
    instance_key = "cell_labels" if labels else "cell_id"
    table = TableModel.parse(adata, region=region, region_key="region", instance_key=instance_key)
    sdata = sd.SpatialData.init_from_elements(elements | {"table": table})
    return Layout(sdata, "table", "cell_boundaries", {"global": scaled(1 / PIXEL)}, areas, middles)


def polygons(adata: ad.AnnData) -> Layout:
    """As ``spatialdata_io.merscope``: multipolygons by ``EntityID``, micrometres that an affine map takes to pixels."""
    ids = [str(10**17 + 7 * i) for i in range(adata.n_obs)]
    adata.obs_names = ids
    adata.obs["EntityID"] = ids
    adata.obs["slide"] = pd.Categorical(["slide"] * adata.n_obs)
    outlines, areas = _discs(adata, ids, "EntityID")
    outlines.geometry = outlines.geometry.map(lambda one: shapely.MultiPolygon([one]))
    affine = {"global": Affine(AFFINE, input_axes=("x", "y"), output_axes=("x", "y"))}
    name = "tissue_region_0_polygons"
    adata.obs["cells_region"] = pd.Categorical([name] * adata.n_obs)
    table = TableModel.parse(adata, region=name, region_key="cells_region", instance_key="EntityID")
    sdata = sd.SpatialData(shapes={name: ShapesModel.parse(outlines, transformations=affine)}, tables={"table": table})
    return Layout(sdata, "table", name, {"global": AFFINE}, areas)


LAYOUTS: dict[str, Callable[[ad.AnnData], Layout]] = {
    "Visium": spots,
    "Visium HD": squares,
    "Xenium, circles": cells_as_circles,
    "Xenium, labels": lambda adata: cells_as_circles(adata, labels=True),
    "MERSCOPE": polygons,
}


@pytest.fixture(params=list(LAYOUTS))
def layout(request, query):
    """An unseen slide as one of the readers gives it."""
    return LAYOUTS[request.param](query)


@pytest.fixture
def xenium(query):
    """An unseen slide as a reader gives it."""
    return cells_as_circles(query)


@pytest.fixture
def two_sections(train):
    """A table of two Visium sections, each with circles and coordinate systems of its own."""
    own = {name: spots(train[train.obs["slide"] == name].copy(), name) for name in ("a", "b")}
    table = ad.concat([one.table for one in own.values()])
    table = TableModel.parse(table, region=["a", "b"], region_key="region", instance_key="spot_id")
    return sd.SpatialData(shapes={name: one.sdata[name] for name, one in own.items()}, tables={"table": table})
