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
    coords
        The finished layout, gauge-fixed, ``(n, 2)``.
    recycles
        The network's own first guess and its layout after every recycle, turned onto the finished one, ``(R + 1, n, 2)``.
    method
        ``"direct"`` or ``"consensus"``.
    """

    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    method: str


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
