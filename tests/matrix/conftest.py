from __future__ import annotations

import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from tests.matrix.world import make_world


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def world(make_slides, settings, tmp_path_factory):
    """One tiny fitted model, and what it placed."""
    return make_world(make_slides, settings.fit["recipe"], tmp_path_factory.mktemp("matrix"))


@pytest.fixture(autouse=True)
def _filters_stay():
    before = list(warnings.filters)
    yield
    assert list(warnings.filters) == before
