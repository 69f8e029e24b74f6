"""Every function on AnnData gives the same for a SpatialData, and writes the same to its table."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import spatialdata as sd

from tests.matrix.calls import CALLS
from tests.matrix.outcomes import changes, remember

FITS = ("pp.embed", "tl.fit_ipalite", "tl.fit_iga", "tl.cross_validate", "tl.ablate_terms")  # one shell, many minutes
USUAL = ("pp.candidates", "pp.cell_ellipses", "tl.predict_coords", "tl.sample_coords", "pl.coords", "pl.uncertainty")
NAMES = [
    name for name, call in CALLS.items() if call.base in ("slides", "train", "query", "placed") and name not in FITS
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.thorough) for name in NAMES]
)
def test_a_table_is_taken_as_an_anndata(world, name):
    call = CALLS[name]
    plain, table = (getattr(world, call.base).copy() for _ in range(2))
    sdata, before = sd.SpatialData(tables={"cells": table}), remember(table)
    call.run(world, plain)
    given = {"copy": True} if call.copies else {}
    found = call.run(world, sdata, table_key="cells", **given)
    if call.copies:
        assert changes(before, remember(table)) == set()
        table = found["cells"] if isinstance(found, sd.SpatialData) else found
    assert changes(remember(plain), remember(table)) == set()
    plt.close("all")
