"""Images of a SpatialData, drawn by spatialdata-plot."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ipar._spatialdata import Annotation, SpatialData, coordinate_system_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ElementImage:
    """An image of a SpatialData, and the coordinate system in which it is drawn."""

    sdata: Any
    name: str
    system: str

    def draw(self, ax: Axes) -> None:
        """Draw it on an axes, where it lies in the coordinate system."""
        import spatialdata_plot  # noqa: F401  # gives a SpatialData its accessor

        frame = {side: one.get_visible() for side, one in ax.spines.items()}
        self.sdata.pl.render_images(self.name).pl.show(
            coordinate_systems=self.system, ax=ax, show=False, colorbar=False, title=""
        )
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
        for side, visible in frame.items():
            ax.spines[side].set_visible(visible)


@dataclass(frozen=True)
class ElementImages:
    """Images beside the elements that a table annotates.

    Attributes
    ----------
    sdata, table
        The object, and the table.
    system
        Coordinate system that was asked for, if one was.
    needed
        Whether there must be one.
    """

    sdata: SpatialData
    table: AnnData
    system: str | None
    needed: bool

    def of(self, rows: NDArray[np.intp], library_id: str | None) -> ElementImage | None:
        """The image of some cells of one element: of that name, or the one of middle resolution in their coordinate system.

        Raises
        ------
        ImportError
            If spatialdata-plot is not installed, and there must be an image.
        KeyError
            If there is no image of that name in the coordinate system.
        """
        from spatialdata.transformations import get_transformation

        annotation = Annotation.of(self.table)
        regions = (
            [] if annotation is None else sorted(set(self.table.obs[annotation.region_key].iloc[rows].astype(str)))
        )
        if annotation is None or len(regions) != 1 or regions[0] not in self.sdata:
            return None
        system = coordinate_system_of(self.sdata[regions[0]], regions[0], self.system)
        elements = [(name, element) for kind, name, element in self.sdata.gen_elements() if kind == "images"]
        names = [name for name, element in elements if system in get_transformation(element, get_all=True)]
        if library_id is not None and library_id not in names:
            msg = f"sdata has no image {library_id!r} in {system!r}, found {names}: name one of these as library_id."
            raise KeyError(msg)
        own = [name for name in names if len(annotation.regions) == 1 or regions[0] in name]
        chosen = library_id or next((name for kind in ("hires", "lowres", "") for name in own if kind in name), None)
        if chosen is None or not self._drawable():
            return None
        return ElementImage(self.sdata, chosen, system)

    def _drawable(self) -> bool:
        there = find_spec("spatialdata_plot") is not None
        if not there and self.needed:
            msg = 'Images of a SpatialData need spatialdata-plot: pip install "ipar[spatialdata]", or pass img=False.'
            raise ImportError(msg)
        return there
