"""The image of the tissue below a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ipar._element_images import ElementImages

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


class Image(Protocol):
    """An image in the frame of the coordinates."""

    def draw(self, ax: Axes) -> None:
        """Draw it on an axes."""


@dataclass(frozen=True)
class StoredImage:
    """An image as scanpy and squidpy store it, and how many of its pixels a unit of coordinates has."""

    pixels: NDArray[Any]
    scale: float

    @classmethod
    def of(cls, adata: AnnData, library_id: str | None) -> StoredImage | None:
        """The image of a library, the finer one if there are two; None without one."""
        known = _libraries(adata)
        if library_id is not None and library_id not in known:
            msg = f"adata.uns['spatial'] has no {library_id!r}, found {list(known)}: name one of these as library_id."
            raise KeyError(msg)
        if library_id is None:
            return None
        own = known[library_id]
        for name in ("hires", "lowres"):
            if name in own.get("images", {}):
                return cls(np.asarray(own["images"][name]), float(own["scalefactors"][f"tissue_{name}_scalef"]))
        return None

    def draw(self, ax: Axes) -> None:
        """See :class:`Image`."""
        height, width = self.pixels.shape[:2]
        extent = (0, width / self.scale, height / self.scale, 0)
        ax.imshow(self.pixels, extent=extent, cmap="gray" if self.pixels.ndim == 2 else None, zorder=0)


def image_below(
    adata: AnnData,
    img: bool | ElementImages | None,
    library_id: str | None,
    rows: NDArray[np.intp],
    slides: NDArray[Any] | None = None,
) -> Image | None:
    """The image of some cells: the one that is there, for None, and one that must be there, for True.

    Parameters
    ----------
    adata, img, library_id
        As in :func:`ipar.pl.coords`; :class:`ElementImages` stand for those of a SpatialData.
    rows
        Cells of one slide.
    slides
        Slide of every cell, by which its library is found; the first library is taken without them.

    Raises
    ------
    ImportError
        If the image of a SpatialData must be there, and spatialdata-plot is not installed.
    KeyError
        If there is no image that was asked for.
    """
    if img is False:
        return None
    if isinstance(img, ElementImages):
        found: Image | None = img.of(rows, library_id)
        needed = img.needed
    else:
        found = StoredImage.of(adata, _library(adata, rows, slides) if library_id is None else library_id)
        needed = bool(img)
    if found is None and (needed or library_id is not None):
        msg = (
            f"There is no image of these cells, found {list(_libraries(adata))} in adata.uns['spatial']: name one of these as "
            "library_id, or leave img=None."
        )
        raise KeyError(msg)
    return found


def draw_below(ax: Axes, image: Image) -> None:
    """Draw an image below a map, which keeps its view but for the rows of pixels, which run down."""
    xlim, ylim = ax.get_xlim(), ax.get_ylim()
    title = ax.get_title()
    image.draw(ax)
    ax.set(xlim=xlim, ylim=(max(ylim), min(ylim)), title=title)


def _libraries(adata: AnnData) -> Mapping[str, Any]:
    known = adata.uns.get("spatial")
    return known if isinstance(known, Mapping) else {}


def _library(adata: AnnData, rows: NDArray[np.intp], slides: NDArray[Any] | None) -> str | None:
    """The library that is called like the slide of some cells; otherwise the first, unless there are several slides."""
    known = _libraries(adata)
    if slides is None:
        return next(iter(known), None)
    own = str(slides[rows[0]])
    return own if own in known else next(iter(known), None) if len(set(slides)) == 1 and len(known) == 1 else None
