"""How long networks are trained on how many cells."""

from __future__ import annotations

FEW_CELLS = 2500  # in all: two brain sections have fewer, five sections or two embryos more
_MOST_TIMES = 3.0


def steps_for(n_steps: int, n_cells: int) -> int:
    """Optimiser steps: ``n_steps`` up to 2,500 training cells, up to three times as many in proportion for more.

    Few cells are memorised by longer training, many are not yet learned: as left-out training slides have it.
    """
    return round(n_steps * min(max(n_cells / FEW_CELLS, 1.0), _MOST_TIMES))
