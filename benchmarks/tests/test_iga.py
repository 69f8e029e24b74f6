from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.iga import report
from benchmarks.iga import run as iga
from ipar.training import FlowTraining, MinisetPlan

PLAN = MinisetPlan(n_minisets=4, size=(30, 40), n_neighbors=10)
TRAINING = FlowTraining(max_epochs=2, gate_steps=2)


@pytest.fixture(scope="module")
def arrays(slides, hasty_recipe):
    return iga.embed(slides, 0, replace(hasty_recipe, inputs="pca"))


def test_slides_are_embedded_with_their_ellipses(slides, arrays):
    assert {name[0] for name in arrays} == {"h", "x", "e"}
    assert {name[1:] for name in arrays} == {"0", "1", "2", "q"}
    assert arrays["eq"].shape == (slides.query.n_obs, 5)
    np.testing.assert_allclose(arrays["xq"].mean(0), 0, atol=1e-2)
    radius = np.sqrt(np.square(arrays["xq"]).sum(1).mean())
    assert np.sqrt(np.square(slides.truth - slides.truth.mean(0)).sum(1).mean()) == pytest.approx(radius, rel=1e-4)


@pytest.mark.parametrize("mode", iga.MODES)
def test_a_run_has_what_the_section_shows(arrays, mode):
    found = iga.run_one(arrays, mode, 0, PLAN, TRAINING)
    json.dumps(found)
    record = {"task": "brain2", "mode": mode, "seed": 0, **found}
    text = report.section("brain2", {mode: [record]} if mode == "current" else {"current": [record], mode: [record]})
    assert "nan" not in text
    assert f"`{mode}`" in text


def test_the_scored_slide_reaches_no_training(arrays):
    moved = arrays | {"xq": arrays["xq"][::-1].copy(), "eq": arrays["eq"][::-1].copy()}
    one, other = (iga.run_one(given, "current", 0, PLAN, TRAINING) for given in (arrays, moved))
    assert one["history"] == other["history"]
    assert one["predicted"] != other["predicted"]
