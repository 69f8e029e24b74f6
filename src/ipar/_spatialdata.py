"""Tables of SpatialData objects, with coordinates and outlines of the elements that they annotate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

ATTRS = "spatialdata_attrs"
_AXES = ("x", "y", "z")


class SpatialData(Protocol):
    """What ipar takes of a :class:`spatialdata.SpatialData`, which it does not import."""

    tables: Any
    attrs: Any

    def __getitem__(self, name: str) -> Any: ...
    def __contains__(self, name: object) -> bool: ...
    def gen_elements(self) -> Any:
        """Kinds, names and elements."""


def is_spatialdata(value: object) -> bool:
    """Whether it is a SpatialData; its package is looked for, not imported."""
    return isinstance(value, getattr(sys.modules.get("spatialdata"), "SpatialData", ()))


def get_table(sdata: SpatialData, table_key: str) -> AnnData:
    """A table by name; raises KeyError, which says what there is, if there is none."""
    if table_key not in sdata.tables:
        msg = f"sdata has no table {table_key!r}, found {sorted(sdata.tables)}: name one of these as table_key."
        raise KeyError(msg)
    return sdata.tables[table_key]


def with_table(sdata: SpatialData, table_key: str, table: AnnData) -> Any:
    """Another SpatialData with the same elements, and another table in the place of one."""
    from spatialdata import SpatialData as Container

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return Container.init_from_elements(elements | {table_key: table}, attrs=sdata.attrs)


@dataclass(frozen=True)
class Part:
    """Cells of a table that annotate one element: their rows, and the ids of their instances."""

    region: str
    rows: NDArray[np.intp]
    ids: pd.Index


@dataclass(frozen=True)
class Annotation:
    """Which elements the cells of a table annotate.

    Attributes
    ----------
    region_key, instance_key
        Columns of ``obs``: the name of the element, and the id of the instance in it.
    regions
        Names of the elements.
    """

    region_key: str
    instance_key: str
    regions: tuple[str, ...]

    @classmethod
    def of(cls, table: AnnData) -> Annotation | None:
        """Read the annotation of a table, if it has one.

        Raises
        ------
        KeyError
            If a column that it names is missing.
        """
        attrs = table.uns.get(ATTRS)
        attrs = attrs if isinstance(attrs, Mapping) else {}
        region_key, instance_key = attrs.get("region_key"), attrs.get("instance_key")
        if region_key is None or instance_key is None:
            return None
        for key in (region_key, instance_key):
            if key not in table.obs:
                msg = (
                    f"The table has no column {key!r} in obs, which uns[{ATTRS!r}] names: write the annotation again by "
                    "sdata.set_table_annotates_spatialelement."
                )
                raise KeyError(msg)
        regions = pd.Categorical(table.obs[region_key]).remove_unused_categories().categories
        return cls(region_key, instance_key, tuple(map(str, regions)))

    @property
    def slide_key(self) -> str | None:
        """The column of ``obs`` that tells slides apart, if the cells annotate several elements."""
        return self.region_key if len(self.regions) > 1 else None

    def part(self, table: AnnData, region: str) -> Part:
        """The cells of one element."""
        rows = np.flatnonzero(table.obs[self.region_key].astype(str) == region)
        return Part(region, rows, pd.Index(table.obs[self.instance_key].iloc[rows]))


def annotation_of(table: AnnData) -> Annotation:
    """As :meth:`Annotation.of`; raises ValueError if there is none."""
    found = Annotation.of(table)
    if found is None:
        msg = (
            "The table annotates no element, so that its cells have no coordinates in a coordinate system: call "
            "sdata.set_table_annotates_spatialelement, or store coordinates in obsm and leave coordinate_system out."
        )
        raise ValueError(msg)
    return found


def element_coordinates(sdata: SpatialData, table: AnnData, system: str | None) -> NDArray[np.float64]:
    """Centroids of the instances that the cells of a table annotate, joined by id, ``(n, 2)`` or ``(n, 3)``.

    Raises
    ------
    KeyError, ValueError
        If the table annotates nothing, or elements, instances or the coordinate system are missing.
    """
    from spatialdata import get_centroids

    found, annotation = [], annotation_of(table)
    for part in (annotation.part(table, region) for region in annotation.regions):
        element = _element(sdata, part.region)
        if isinstance(element, pd.DataFrame):  # what is not sorted, spatialdata warns of
            element = element.sort_index()
        centroids = get_centroids(element, coordinate_system_of(element, part.region, system)).compute()
        places = _places(centroids.index, part.ids, part.region)
        found.append(centroids.iloc[places].set_axis(part.rows))
    whole = pd.concat(found).sort_index()
    if len(whole) < table.n_obs:
        msg = f"{table.n_obs - len(whole)} cells of the table annotate no element in obs[{annotation.region_key!r}]: remove them."
        raise ValueError(msg)
    axes = [axis for axis in _AXES if axis in whole and whole[axis].notna().all()]
    return np.asarray(whole[axes], dtype=np.float64)


def element_outlines(
    sdata: SpatialData, table: AnnData, shapes_key: str | Sequence[str], system: str | None, *, move: bool
) -> Any:
    """Shapes of the cells of a table, joined by the ids of their instances, with the names of the cells as index.

    Shapes that the table does not annotate, such as outlines beside the labels that it does, are joined by the column of
    ``obs`` that their index is named after, if it has names, or by the names of the cells. `move` transforms them to the coordinate system;
    otherwise they stay as they are stored.

    Raises
    ------
    KeyError, ValueError
        If there are no such shapes, or a cell has none.
    """
    from spatialdata import transform

    annotation = Annotation.of(table)
    regions = () if annotation is None else annotation.regions
    found = []
    for key in [shapes_key] if isinstance(shapes_key, str) else shapes_key:
        shapes = _element(sdata, key)
        if not hasattr(shapes, "geometry"):
            msg = (
                f"sdata[{key!r}] must be shapes, found {type(shapes).__name__}: name circles or polygons as shapes_key."
            )
            raise ValueError(msg)
        if annotation is not None and key in annotation.regions:
            part = annotation.part(table, key)
        else:
            part = _part_by_name(table, shapes, key)
        if move:
            shapes = transform(shapes, to_coordinate_system=coordinate_system_of(shapes, key, system))
        found.append(shapes.iloc[_places(shapes.index, part.ids, key)].set_axis(table.obs_names[part.rows]))
    whole = pd.concat(found) if len(found) > 1 else found[0]
    if len(whole) != table.n_obs or not whole.index.is_unique:
        msg = (
            f"shapes_key names shapes of {len(whole)} cells, and the table has {table.n_obs}: name one element for each of the "
            f"regions {list(regions)}."
        )
        raise ValueError(msg)
    return whole.loc[table.obs_names]


def _part_by_name(table: AnnData, shapes: Any, key: str) -> Part:
    """Cells by name: numbers count the instances of one element, and tell nothing of those of another."""
    column = table.obs.get(shapes.index.name)
    ids = table.obs_names if column is None or is_numeric_dtype(column) else pd.Index(column)
    return Part(key, np.arange(table.n_obs), ids)


def _element(sdata: SpatialData, name: str) -> Any:
    if name not in sdata:
        there = sorted(name for kind, name, _ in sdata.gen_elements() if kind in ("shapes", "points", "labels"))
        msg = f"sdata has no element {name!r}, found {there}: add it, or annotate one of these by sdata.set_table_annotates_spatialelement."
        raise KeyError(msg)
    return sdata[name]


def coordinate_system_of(element: Any, name: str, asked: str | None) -> str:
    """The coordinate system that was asked for, or the only one, or the global one, or that of the element's own name."""
    from spatialdata.transformations import get_transformation

    known = sorted(get_transformation(element, get_all=True))
    if asked is not None and asked not in known:
        msg = f"sdata[{name!r}] has no coordinate system {asked!r}, found {known}: pass one of these as coordinate_system."
        raise ValueError(msg)
    chosen = asked or next((one for one in (*known[: len(known) == 1], "global", name) if one in known), None)
    if chosen is None:
        msg = f"sdata[{name!r}] has the coordinate systems {known}: pass one of these as coordinate_system."
        raise ValueError(msg)
    return chosen


def _places(index: pd.Index, ids: pd.Index, name: str) -> NDArray[np.intp]:
    """Where the instances of cells are in an element."""
    for found, whose in ((index, f"sdata[{name!r}]"), (ids, f"The table, for {name!r},")):
        if not found.is_unique:
            msg = f"{whose} has several instances of one id, such as {found[found.duplicated()].tolist()[0]!r}: keep one of each."
            raise ValueError(msg)
    places = np.asarray(index.get_indexer(ids))
    missing = places < 0
    if missing.any():
        seen = f", where ids are such as {index.tolist()[0]!r}" if len(index) else ""
        msg = (
            f"{int(missing.sum())} of {len(ids)} cells of the table have no instance in sdata[{name!r}], the first of id "
            f"{ids[missing].tolist()[0]!r}{seen}: remove these cells, or correct the ids."
        )
        raise ValueError(msg)
    return places
