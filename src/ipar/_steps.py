"""How training goes by the size of the data: its length by cells, its regularisation by genes."""

from __future__ import annotations

FEW_CELLS = 2500  # in all: two brain sections have fewer, five sections or two embryos more
_MOST_TIMES = 3.0
FEW_FEATURES = 1000  # panels of genes, and principal components
_DROPPED_OF_FEW, _DROPPED_OF_MANY = 0.2, 0.5


def steps_for(n_steps: int, n_cells: int) -> int:
    """Optimiser steps: ``n_steps`` up to 2,500 training cells, up to three times as many in proportion for more.

    Few cells are memorised by longer training, many are not yet learned: as left-out training slides have it.
    """
    return round(n_steps * min(max(n_cells / FEW_CELLS, 1.0), _MOST_TIMES))


def input_dropout(n_features: int) -> float:
    """Share of its input that a perceptron does not see in a step: a half, or a fifth of fewer than 1,000 features.

    Few features, each of which says more, can spare fewer: single cells of some 350 genes have better ranks of distances
    so, at a small price in neighbours (``benchmarks/levers.md``, also for sections cut down to as few, where E_geo alone gains).
    """
    return _DROPPED_OF_FEW if n_features < FEW_FEATURES else _DROPPED_OF_MANY
