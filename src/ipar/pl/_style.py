"""How maps are drawn: what users of scanpy pass to its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, is_color_like, to_hex

from ipar._options import Positive
from ipar.pl._figure import as_chart, as_map, dots, figure_of, scale_bar

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Palette: TypeAlias = str | Sequence[str] | Mapping[str, str]
FigureSize: TypeAlias = tuple[Positive, Positive]


@dataclass(frozen=True)
class Style:
    """How maps and charts are drawn.

    Attributes
    ----------
    size
        Area of a dot in points²; that of :func:`~ipar.pl._figure.dot_size`, if None.
    frameon
        Whether panels have a frame; maps have none and charts a half, if None.
    title
        Title of the figure, or one per panel; those of the plot, if None.
    palette
        Colours of categories: a list in their order, a dictionary by name, or the name of a matplotlib colour map.
    cmap
        Colour map of numbers.
    figsize
        Width and height of a new figure in inches; those of the plot, if None.
    """

    size: float | None = None
    frameon: bool | None = None
    title: str | Sequence[str] | None = None
    palette: Palette | None = None
    cmap: str | Colormap | None = None
    figsize: FigureSize | None = None

    def __post_init__(self) -> None:
        names = [self.cmap, self.palette if isinstance(self.palette, str) else None]
        for option, name in zip(("cmap", "palette"), names, strict=True):
            if isinstance(name, str) and name not in colormaps:
                msg = (
                    f"{option} must be a colour map that matplotlib knows, found {name!r}: name one such as 'viridis'."
                )
                raise ValueError(msg)
        given = self.palette.values() if isinstance(self.palette, Mapping) else self.palette
        if given is not None and not isinstance(given, str) and (bad := [x for x in given if not is_color_like(x)]):
            msg = f"palette must hold colours, found {bad[0]!r}: name colours such as '#0072B2'."
            raise ValueError(msg)

    def numbers(self, default: str | Colormap = "viridis") -> str | Colormap:
        """The colour map of numbers."""
        return default if self.cmap is None else self.cmap

    def colors(self, names: Sequence[str], what: str) -> list[str] | None:
        """Colours of the palette for categories of something; None without a palette."""
        given = self.palette
        if isinstance(given, Mapping):
            if missing := [name for name in names if name not in given]:
                msg = f"palette has no colour for {missing[0]!r}: give one to each of {list(names)}."
                raise ValueError(msg)
            return [given[name] for name in names]
        if isinstance(given, str):
            own = colormaps[given]  # a list of colours, or a range
            places = np.arange(len(names)) if own.N < 256 else np.linspace(0, 1, len(names))
            return [to_hex(one) for one in own(places)]
        if given is not None and len(given) < len(names):
            msg = f"palette has {len(given)} colours, but {what!r} has {len(names)} categories: give as many."
            raise ValueError(msg)
        return None if given is None else list(given)[: len(names)]

    def series(self, defaults: Mapping[str, str], what: str) -> dict[str, str]:
        """Colours of the curves or bars of a chart by name."""
        given = self.colors(list(defaults), what)
        return dict(defaults) if given is None else dict(zip(defaults, given, strict=True))

    def chart(self, ax: Axes) -> None:
        """Turn `ax` into a chart."""
        as_chart(ax, frame=self.frameon)

    def map(self, ax: Axes, xy: NDArray[np.float64]) -> None:
        """Turn `ax` into a map of `xy`."""
        as_map(ax, xy, frame=bool(self.frameon))

    def dots(self, ax: Axes, xy: NDArray[np.float64], **style: Any) -> Any:
        """Scatter `xy` on `ax`."""
        return dots(ax, xy, **({} if self.size is None else {"s": self.size}) | style)

    def name(self, axes: Sequence[Axes], names: Sequence[str], fontsize: float = 10) -> None:
        """Give panels their titles: the given ones, if there is one per panel, or the plot's."""
        titles = names if self.title is None or (isinstance(self.title, str) and len(axes) > 1) else self.title
        titles = [titles] if isinstance(titles, str) else list(titles)
        if len(titles) != len(axes):
            msg = f"title has {len(titles)} titles, but this plot has {len(axes)} panels: give one for each, or a single text."
            raise ValueError(msg)
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize=fontsize)

    def heading(self, axes: Sequence[Axes], name: str | None, n_panels: int) -> None:
        """Give a figure its title: the given one, or the name of a slide."""
        text = self.title if isinstance(self.title, str) and n_panels > 1 else name
        if text is not None:
            figure_of(axes).suptitle(text, fontsize=11)


def unit_length(adata: AnnData, unit: float | None) -> float | None:
    """Micrometres per unit of the true coordinates: as given, or as the record of Visium slides tells; None if unknown."""
    if unit is not None:
        return unit
    source = adata.uns.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("micrometres"), float | int):
        return float(source["micrometres"])
    known = adata.uns.get("spatial")
    for library in known.values() if isinstance(known, Mapping) else ():
        factors = library.get("scalefactors", {}) if isinstance(library, Mapping) else {}
        if "microns_per_pixel" in factors:  # Visium HD
            return float(factors["microns_per_pixel"])
        if factors.get("spot_diameter_fullres"):  # Visium, whose spots are 55 µm wide
            return 55.0 / float(factors["spot_diameter_fullres"])
    return None


def draw_scale(ax: Axes, xy: NDArray[np.float64], micrometres: float | None) -> None:
    """Draw a scale bar of about a fifth of the width of a map, if the unit is known."""
    if micrometres is not None:
        scale_bar(ax, float(np.ptp(xy[:, 0])), micrometres)
