from __future__ import annotations

import anndata as ad
import pytest

from ipar import datasets


@pytest.fixture(scope="session")
def layered() -> ad.AnnData:
    return datasets.layered_tissue()


@pytest.fixture(scope="session")
def liver() -> ad.AnnData:
    return datasets.liver_lobules()


@pytest.fixture(scope="session")
def layered_cells() -> ad.AnnData:
    return datasets.layered_tissue_dissociated()


@pytest.fixture(scope="session")
def liver_cells() -> ad.AnnData:
    return datasets.liver_lobules_dissociated()
