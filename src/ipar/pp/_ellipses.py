"""Ellipses of cells in AnnData."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_numeric_dtype
from sklearn.neighbors import NearestNeighbors

from ipar._anndata import ELLIPSE, ELLIPSE_COLUMNS, get_slides, raw_coords, warn
from ipar._docs import shared_docs
from ipar._options import Count, Key
from ipar._public import public
from ipar._spatialdata import Annotation
from ipar.geometry.ellipses import Floats, area_moments, ellipse_table

if TYPE_CHECKING:
    from anndata import AnnData


@public
@shared_docs
def cell_ellipses(
    adata: AnnData,
    shapes: Any = None,
    *,
    shapes_key: str | Sequence[str] | None = None,
    moments: str | ArrayLike | None = None,
    n_neighbors: Count = 10,
    spatial_key: str = "spatial",
    library_key: str | None = None,
    key_added: Key = ELLIPSE,
    copy: bool = False,
) -> AnnData | None:
    """Compute an ellipse (in 3D an ellipsoid) for every cell: from its outline, its moments, or the cells around it.

    An ellipse is the Gaussian with the same centroid and second moments. The standard deviations of a filled ellipse are
    half its semi-axes.

    Parameters
    ----------
    adata
        Annotated data with coordinates.
    shapes
        Outlines, one per cell, in the units of the coordinates: a GeoDataFrame or GeoSeries of polygons, multipolygons, or
        points with a column ``"radius"``, or a sequence of vertex arrays ``(v, 2)``.
    shapes_key
        Shapes element with the outlines, for a SpatialData: of the cells' own region, or beside it, such as
        ``"cell_boundaries"`` where cells annotate labels. For cells of several regions, one per region. Without
        `coordinate_system`, outlines are read as they are stored, and must have the units of the coordinates in ``obsm``.
    moments
        Second central moments instead of outlines: covariance matrices ``(n, d, d)``, their upper triangles row by row,
        ``(n, 3)`` or ``(n, 6)``, or the key of such an array in ``obsm``.
    n_neighbors
        Nearest cells whose covariance gives the ellipse, if there are no shapes and no moments.
    spatial_key
        Key of the coordinates in ``obsm``, with two or three columns.
    %(library_key)s
    key_added
        Key of the results.
    %(copy)s

    Returns
    -------
    None, or the copy. Writes

    ``.obsm["ellipse"]``
        float32, ``(n, 5)``: offset of the centre from the coordinates (x, y), standard deviations along the major and the
        minor axis, and the angle of the major axis to the x axis in radians, in (−π/2, π/2]. In 3D ``(n, 9)``: offset (3),
        standard deviations (3, longest first), rotation vector of the axes (3).
    ``.uns["ellipse"]``
        ``columns``, ``units``, ``method`` (``"shapes"``, ``"moments"`` or ``"neighbors"``), ``spatial_key`` and, for
        neighbours, ``n_neighbors``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If coordinates, outlines or moments are missing, not usable, or do not match the cells, or there are too few cells.

    Warns
    -----
    UserWarning
        If outlines lie far from the coordinates of their cells, for example in other units.

    Notes
    -----
    Geopandas objects are matched to cells by their index, which must hold all ``obs_names``, or, for a table of SpatialData, the
    ids of all instances. Shapes named by `shapes_key` are matched by the ids of instances, or, if the table does not annotate
    them, by the column of ``obs`` that their index is named after, or by ``obs_names``. Sequences are matched by order.

    On a hexagonal grid, 10 neighbours are the first ring and half of the second. Fewer than 4 d neighbours are noisy.

    References
    ----------
    Moments of polygons: Steger, On the calculation of arbitrary moments of polygons, TU München (1996).

    Examples
    --------
    >>> import ipar
    >>> st = ipar.datasets.layered_tissue(n_slides=1, n_cells=100)
    >>> ipar.pp.cell_ellipses(st, library_key="slide")
    >>> st.obsm["ellipse"].shape, st.uns["ellipse"]["method"]
    ((100, 5), 'neighbors')
    """
    adata = adata.copy() if copy else adata
    if shapes is not None and moments is not None:
        msg = "Either shapes or moments must be given, found both: leave one of them out."
        raise ValueError(msg)
    if shapes_key is not None:
        msg = "shapes_key must be given for a SpatialData, and without shapes: pass outlines of an AnnData as shapes."
        raise ValueError(msg)
    coords = raw_coords(adata, spatial_key, dims=(2, 3))  # in the frame of the outlines
    record: dict[str, Any] = {"units": f"those of obsm[{spatial_key!r}]", "spatial_key": spatial_key}
    if shapes is not None:
        table = _of_shapes(adata, shapes, coords)
        record["method"] = "shapes"
    elif moments is not None:
        covariance = _covariances(adata, moments, coords)
        table = ellipse_table(np.zeros_like(coords), covariance)
        record["method"] = "moments"
    else:
        table = neighbor_ellipses(coords, get_slides(adata, library_key), n_neighbors)
        record |= {"method": "neighbors", "n_neighbors": n_neighbors}
    adata.obsm[key_added] = table.astype(np.float32)
    record["columns"] = np.array(ELLIPSE_COLUMNS[coords.shape[1]], dtype=object)
    adata.uns[key_added] = record
    return adata if copy else None


def neighbor_ellipses(coords: NDArray[np.floating], slides: pd.Categorical, n_neighbors: int) -> Floats:
    """Ellipses from the mean and covariance of every cell and its nearest of the same slide, ``(n, 5)`` or ``(n, 9)``."""
    n, d = coords.shape
    if n_neighbors < d + 1:
        msg = f"n_neighbors must be at least {d + 1} in {d} dimensions, found {n_neighbors}."
        raise ValueError(msg)
    mean, covariance = np.empty((n, d)), np.empty((n, d, d))
    for name in slides.categories:
        cells = np.flatnonzero(slides == name)
        if len(cells) < d + 2:
            msg = f"Ellipses need at least {d + 2} cells per slide, found {len(cells)} in {name!r}: remove this slide."
            raise ValueError(msg)
        search = NearestNeighbors(n_neighbors=min(n_neighbors + 1, len(cells))).fit(coords[cells])
        around = coords[cells][search.kneighbors(coords[cells], return_distance=False)]  # (n_s, k + 1, d)
        mean[cells] = around.mean(axis=1)
        gaps = around - mean[cells][:, None]
        covariance[cells] = gaps.transpose(0, 2, 1) @ gaps / around.shape[1]
    return ellipse_table(mean - coords, covariance)


def _covariances(adata: AnnData, moments: str | ArrayLike, coords: Floats) -> Floats:
    if isinstance(moments, str):
        if moments not in adata.obsm:
            msg = f"adata.obsm has no {moments!r}: name the array of second moments, or pass it."
            raise KeyError(msg)
        moments = np.asarray(adata.obsm[moments])
    values = np.asarray(moments, dtype=np.float64)
    n, d = coords.shape
    if values.ndim == 2 and values.shape[1] == d * (d + 1) // 2:
        full = np.empty((len(values), d, d))
        rows, columns = np.triu_indices(d)
        full[:, rows, columns] = full[:, columns, rows] = values
        values = full
    if values.shape != (n, d, d):
        msg = (
            f"moments must have shape ({n}, {d}, {d}) or, as upper triangles, ({n}, {d * (d + 1) // 2}), found "
            f"{values.shape}: pass one covariance per cell, in the dimensions of the coordinates."
        )
        raise ValueError(msg)
    scale = np.abs(values).max(axis=(1, 2))
    symmetric = np.abs(values - values.transpose(0, 2, 1)).max(axis=(1, 2)) <= 1e-6 * scale
    bad = ~(np.isfinite(values).all(axis=(1, 2)) & symmetric)
    if not bad.any():
        bad = np.linalg.eigvalsh(values)[:, 0] < -1e-6 * scale
    if bad.any():
        msg = (
            f"moments must be finite covariance matrices, found {int(bad.sum())} cells without one, the first "
            f"{adata.obs_names[int(np.flatnonzero(bad)[0])]!r}: pass second central moments."
        )
        raise ValueError(msg)
    return values


def _of_shapes(adata: AnnData, shapes: Any, coords: Floats, furthest: float = 10.0) -> Floats:
    """Ellipses of outlines; warns if half of them are further than `furthest` standard deviations from their cells."""
    if coords.shape[1] != 2:
        msg = "shapes need coordinates with two columns, found three: pass moments (n, 3, 3) instead."
        raise ValueError(msg)
    outlines = _matched(adata, shapes)
    if len(outlines) != adata.n_obs:
        msg = f"shapes must hold {adata.n_obs} outlines, found {len(outlines)}: pass one per cell, in the order of the cells."
        raise ValueError(msg)
    centres, covariance = np.empty((adata.n_obs, 2)), np.empty((adata.n_obs, 2, 2))
    for i, outline in enumerate(outlines):
        try:
            centres[i], covariance[i] = outline if isinstance(outline, tuple) else area_moments(_rings(outline))
        except (ValueError, IndexError) as error:
            msg = f"The shape of cell {adata.obs_names[i]!r} is not usable ({error}): fix it, or remove the cell."
            raise ValueError(msg) from error
    table = ellipse_table(centres - coords, covariance)
    far = np.median(np.linalg.norm(table[:, :2], axis=1) / np.maximum(table[:, 2], 1e-300))
    if far > furthest:
        warn(
            f"Half of the shapes lie more than {far:.0f} of their standard deviations from the coordinates of their cells: "
            "check that both have the same units and frame."
        )
    return table


def _matched(adata: AnnData, shapes: Any) -> Sequence[Any]:
    """Outlines in the order of the cells, with circles as centre and covariance."""
    if not hasattr(shapes, "geometry"):
        return list(shapes)
    shapes = shapes.iloc[_places(adata, shapes.index)]
    geometries = list(shapes.geometry)
    if not geometries or geometries[0].geom_type != "Point":
        return geometries
    if "radius" not in getattr(shapes, "columns", ()):
        msg = "shapes must have an area, found points without a column 'radius': pass polygons, or add this column."
        raise ValueError(msg)
    # the variance of a disc of radius r is r²/4
    return [
        (np.array([point.x, point.y]), np.eye(2) * radius**2 / 4)
        for point, radius in zip(geometries, shapes["radius"], strict=True)
    ]


def _places(adata: AnnData, index: pd.Index) -> NDArray[np.intp]:
    """Where the outlines of cells are, by the names of the cells or the ids of their instances."""
    annotation = Annotation.of(adata)
    ids = [] if annotation is None else [pd.Index(adata.obs[annotation.instance_key])]
    for names in (adata.obs_names, *ids):
        # numbers could be those of another element, unless they are the same ones
        alike = not is_numeric_dtype(names) or len(names) == len(index)
        if alike and index.is_unique and names.is_unique and names.isin(index).all():
            return np.asarray(index.get_indexer(names))
    n_known = int(adata.obs_names.isin(index.unique()).sum())
    msg = (
        f"The index of shapes must hold the name of every cell once, found {n_known} of {adata.n_obs} in {len(index)} outlines: set "
        "shapes.index, or pass list(shapes.geometry) if outlines are in the order of the cells."
    )
    raise ValueError(msg)


def _rings(outline: Any) -> Iterator[tuple[Floats, float]]:
    """Rings of a polygon, multipolygon or array of vertices; holes have a negative sign."""
    kind = getattr(outline, "geom_type", None)
    if kind == "MultiPolygon":
        for part in outline.geoms:
            yield from _rings(part)
    elif kind == "Polygon":
        yield np.asarray(outline.exterior.coords)[:, :2], 1.0
        for hole in outline.interiors:
            yield np.asarray(hole.coords)[:, :2], -1.0
    elif kind is None:
        vertices = np.asarray(outline, dtype=np.float64)
        if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3 or not np.isfinite(vertices).all():
            msg = f"expected at least three finite vertices (v, 2), found shape {vertices.shape}"
            raise ValueError(msg)
        yield vertices, 1.0
    else:
        msg = f"expected a polygon, found {kind}"
        raise ValueError(msg)
