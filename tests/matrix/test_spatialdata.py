"""Every function on AnnData gives the same for a SpatialData, and writes the same to its table."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import pytest
import spatialdata as sd

from tests.matrix.calls import CALLS
from tests.matrix.outcomes import changes, remember

FITS = ("pp.embed", "tl.fit_ipalite", "tl.fit_iga", "tl.cross_validate", "tl.ablate_terms")  # one shell, many minutes
NAMES = [
    name for name, call in CALLS.items() if call.base in ("slides", "train", "query", "placed") and name not in FITS
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_taken_as_an_anndata(world, name):
    call = CALLS[name]
    plain, table = (getattr(world, call.base).copy() for _ in range(2))
    sdata = sd.SpatialData(tables={"cells": table})
    call.run(world, plain)
    call.run(world, sdata, table_key="cells")
    assert changes(remember(plain), remember(table)) == set()
    if call.copies:
        sdata = sd.SpatialData(tables={"cells": getattr(world, call.base).copy()})
        before = remember(sdata["cells"])
        copied = call.run(world, sdata, table_key="cells", copy=True)
        assert changes(before, remember(sdata["cells"])) == set()
        found = copied["cells"] if isinstance(copied, sd.SpatialData) else copied
        assert isinstance(found, ad.AnnData)
        assert changes(remember(plain), remember(found)) == set()
    plt.close("all")
