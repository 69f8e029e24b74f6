from __future__ import annotations

import numpy as np
import pytest

from benchmarks import regions
from ipar.metrics import region_coverage


def record(task, slide, share, ratio=0.8, localisable=True):
    own = {"task": task, "slide": slide, "coverage": [share - 0.3, share, share + 0.1], "area_ratio": ratio}
    return own | {"n_units": 3, "held_out": "slides", "localisable": localisable}


def test_the_table_has_means_of_slides_then_of_localisable_tasks():
    records = [record("brain3", "a", 0.7), record("brain3", "b", 0.8), record("layers", "a", 0.85, ratio=0.6)]
    text = regions.page([*records, record("mirrored", "a", 0.1, localisable=False)])
    assert "| half brain, three other sections | 3 slides | 2 | 45.0% | 75.0% (70% to 80%) | 85.0% | 0.80 |" in text
    assert "simulated, mirrored, not localisable" in text
    assert "| **mean of localisable tasks** | | | 50.0% | 80.0% | 90.0% | 0.70 |" in text


def test_areas_are_compared_at_equal_coverage():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 2))
    layout = truth + 0.3 * rng.normal(size=(200, 2))
    radius = rng.uniform(0.5, 1.0, 200)
    area = regions._area(truth, layout, layout, radius)
    assert regions._area(truth, layout, layout, 7 * radius) == pytest.approx(area)
    scale = np.sqrt(area / (np.pi * np.square(radius).mean()))
    assert region_coverage(truth, layout, layout[:, None], scale * radius)[0] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("mirrored", [False, True])
def test_test_slides_carry_no_coordinates(mirrored, tmp_path):
    data = regions.simulated(0, mirrored, tmp_path, n_slides=2)
    ((cells, truth),) = data.queries.values()
    assert "spatial" in data.train.obsm
    assert "spatial" not in cells.obsm
    assert truth.shape == (cells.n_obs, 2)
    assert not set(data.train.obs_names) & set(cells.obs_names)
    if mirrored:
        left = truth[:, 0] < 0
        assert 0.4 < left.mean() < 0.6
