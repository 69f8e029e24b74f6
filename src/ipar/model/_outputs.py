"""What a fitted model gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """Predicted coordinates.

    Attributes
    ----------
    recycles
        First guess and the layout after every recycle, aligned to the last, ``(R + 1, n, 2)``.
    method
        ``"direct"`` or ``"consensus"``.
    """

    recycles: NDArray[np.float32]
    method: str

    @property
    def coords(self) -> NDArray[np.float32]:
        """The last layout, gauge-fixed, ``(n, 2)``."""
        last: NDArray[np.float32] = self.recycles[-1]
        return last


@dataclass(frozen=True)
class Attention:
    """Attention rows of a few cells from one pass.

    Attributes
    ----------
    query
        Positions of the cells looked at, ``(q,)``.
    cells
        Positions of the cells that took part, ``(m,)``.
    weights
        ``(q, R, H, m)``.
    candidates
        Which cells each could attend to, ``(q, m)``.
    """

    query: NDArray[np.int64]
    cells: NDArray[np.int64]
    weights: NDArray[np.float32]
    candidates: NDArray[np.bool_]
