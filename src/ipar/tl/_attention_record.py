"""Attention of a few cells as it is stored with a prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._run import Run
from ipar.model import IPALite
from ipar.model.network import attention_rows


def quadrant_attention(
    model: IPALite, h: NDArray[np.float32], coords: NDArray[np.float32], slides: pd.Categorical, run: Run
) -> dict[str, NDArray[np.generic]]:
    """That of one cell per quadrant of the first slide, see :func:`attention_record`."""
    cells = np.flatnonzero(slides == slides.categories[0])
    return attention_record(model, h[cells], cells, quadrant_cells(coords[cells]), run)


def attention_record(
    model: IPALite,
    h: NDArray[np.float32],
    cells: NDArray[np.int64],
    query: NDArray[np.int64],
    run: Run,
) -> dict[str, NDArray[np.generic]]:
    """Attention of some cells of a slide as it is stored, in positions of the whole AnnData.

    Parameters
    ----------
    model
        The model.
    h, cells
        Embeddings of the slide ``(n, d)``, and where its cells are in the AnnData ``(n,)``.
    query
        Which of them to look at, sorted.
    run
        Seed.
    """
    found = attention_rows(model.network, h, query, run)
    q = len(found.query)
    return {
        "query": cells[found.query],
        "cells": np.broadcast_to(cells[found.cells], (q, len(found.cells))).copy(),
        "weights": found.weights,
        "candidates": found.candidates,
    }


def quadrant_cells(coords: NDArray[np.float32]) -> NDArray[np.int64]:
    """The cell nearest to the middle of each quadrant of a layout, at most four, each once."""
    centre = np.median(coords, axis=0)
    half = np.abs(coords - centre).mean(axis=0)
    middles = centre + half * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    nearest = np.linalg.norm(coords[None] - middles[:, None], axis=-1).argmin(axis=1)
    return np.unique(nearest)
