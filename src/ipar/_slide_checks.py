"""What training slides are warned of: positions, panels, controls and copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import warn
from ipar._passes import row_key

if TYPE_CHECKING:
    from ipar.training import SlideSet


@dataclass(frozen=True)
class SlideChecks:
    """What is called unusual.

    Attributes
    ----------
    least_cells, least_alone
        Cells that a slide needs to teach neighbourhoods, and to teach alone.
    stray
        A cell is stray that lies so many times further out than 99 % of its slide.
    flat
        A slide is a line whose cells spread less across it than this share of their spread along it.
    expected, missing
        A gene is missing from a slide if so many cells should have it by its frequency elsewhere. From this share of such
        genes on, panels differ: fewer genes may be those of one sex or strain.
    copied
        Slides are copies of each other that have this share of their cells in common.
    controls
        Beginnings of the names of control probes, in lower case.
    """

    least_cells: int = 50
    least_alone: int = 200
    stray: float = 20.0
    flat: float = 1e-3
    expected: float = 30.0
    missing: float = 0.02
    copied: float = 0.5
    controls: tuple[str, ...] = (
        "blank",
        "negcontrol",
        "negprb",
        "negative",
        "systemcontrol",
        "antisense_",
        "unassigned",
        "deprecatedcodeword",
        "falsecode",
    )

    def check_sizes(self, slides: pd.Categorical[Any]) -> None:
        """Raise ValueError if a slide has too few cells."""
        counts = pd.Series(slides).value_counts()
        if len(counts) == 1 and len(slides) < self.least_alone:
            msg = (
                f"A section that teaches alone needs at least {self.least_alone} cells, since parts of it are held out, found "
                f"{len(slides)}: add cells, or another section."
            )
            raise ValueError(msg)
        small = counts[counts < self.least_cells]
        if len(small):
            listed = ", ".join(f"{name} ({count})" for name, count in small.items())
            msg = f"Every training slide needs at least {self.least_cells} cells, found {listed}: remove these slides."
            raise ValueError(msg)

    def check_positions(self, coords: NDArray[np.floating], slides: pd.Categorical[Any]) -> None:
        """Check the positions ``(n, d)`` of every slide.

        Raises ValueError if there are hardly any distinct ones. Warns of positions that are shared, that lie far out, or
        that form a line.
        """
        for name in slides.categories:
            own = np.asarray(coords[slides == name], dtype=np.float64)
            distinct = len(np.unique(own, axis=0))
            if distinct < max(4, len(own) // 20):
                msg = (
                    f"Slide {name!r} has only {distinct} distinct positions for {len(own)} cells: check the coordinates, "
                    "or remove the slide."
                )
                raise ValueError(msg)
            if distinct < len(own):
                warn(f"Slide {name!r}: {len(own) - distinct} of {len(own)} cells share a position with another cell.")
            self._check_shape(own, str(name))

    def _check_shape(self, coords: NDArray[np.float64], name: str) -> None:
        centred = coords - np.median(coords, axis=0)
        radius = np.abs(centred).max(axis=1)
        usual = float(np.quantile(radius, 0.99))
        stray = np.flatnonzero(radius > self.stray * usual)
        if len(stray):
            far = float(radius[stray].max() / max(usual, 1e-300))
            warn(
                f"Slide {name!r}: {len(stray)} of {len(coords)} cells lie up to {far:.3g} times as far out as 99 % of the cells, "
                f"the first at {coords[stray[0]].tolist()}. All distances are measured against them: remove these cells."
            )
            return
        spread = np.linalg.svd(centred - centred.mean(axis=0), compute_uv=False)
        if spread[1] < self.flat * spread[0]:
            warn(f"Slide {name!r}: all cells lie on a line. Check that both columns of coordinates were read.")

    def check_expression(self, slides: SlideSet) -> None:
        """Warn of control probes, of genes that some slides lack, and of slides that are copies of each other."""
        names = slides.genes.astype(str)
        control = names[names.str.lower().str.startswith(self.controls)]
        if len(control):
            warn(
                f"{_listed(list(control), 'column')} look like control probes, not genes: remove them, such as by "
                f"adata = adata[:, ~adata.var_names.str.startswith({control[0][:5]!r})]."
            )
        self._check_panels(slides)
        self._check_copies(slides)

    def _check_panels(self, slides: SlideSet) -> None:
        sizes = np.array(slides.sizes, dtype=np.float64)
        counts = np.stack([np.bincount(one.expression.indices, minlength=len(slides.genes)) for one in slides])
        for i, slide in enumerate(slides):
            others = np.delete(counts, i, axis=0).sum(axis=0) / max(sizes.sum() - sizes[i], 1.0)
            common = others * sizes[i] >= self.expected
            missing = np.flatnonzero(common & (counts[i] == 0))
            if len(missing) > self.missing * common.sum():
                warn(
                    f"Slide {slide.name!r}: {_listed(slides.genes[missing].tolist(), 'gene')} have no counts, but are common on "
                    "other slides. If panels differ, keep the genes that all slides have: anndata.concat(slides, join='inner')."
                )

    def _check_copies(self, slides: SlideSet) -> None:
        keys = [np.unique(key[key != 0]) for key in (row_key(one.expression) for one in slides)]
        for (first, a), (second, b) in combinations(zip(slides, keys, strict=True), 2):
            shared = len(np.intersect1d(a, b, assume_unique=True)) / max(min(len(a), len(b)), 1)
            if shared >= self.copied:
                warn(
                    f"Slides {first.name!r} and {second.name!r} have {shared:.0%} of their cells in common. What one of them "
                    "teaches is known of the other, so that figures of held-out slides are too good: remove one of them."
                )


def _listed(names: Sequence[str], what: str, most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({shown}{more})"
