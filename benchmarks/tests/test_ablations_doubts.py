from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

import ipar
import lever_doubts


def test_the_default_row_is_what_predictions_have(query, model, generated):
    joint = np.array([[-9.0, 9.0], [0.0, 1.0]])
    head = replace(model.uncertainty, joint=joint)
    model = replace(model, flow=replace(generated.model, encoder=model.encoder), uncertainty=head)
    ipar.tl.predict_coords(query, model, random_state=3, progress=False)
    found = lever_doubts.signs(model, query, 3)
    default = next(sign for name, sign in found.items() if name.endswith("(the default)"))
    # float32 ties some
    assert spearmanr(default, query.obs["ipar_uncertainty"]).statistic == pytest.approx(1.0, abs=1e-4)
    assert len({sign.tobytes() for sign in found.values()}) == len(found) == 6


def test_disagreement_is_blind_to_frames():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(80, 2)).astype(np.float32)
    turned = 3.0 * first @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 5.0
    assert lever_doubts.disagreement(first, [first, turned]).max() < 1e-5
    moved = turned.copy()
    moved[7] += 6.0
    gaps = lever_doubts.disagreement(first, [first, moved.astype(np.float32)])
    assert gaps.argmax() == 7


def test_ranks_of_errors():
    errors = np.random.default_rng(1).gamma(2.0, size=501)
    best, worst = lever_doubts.ranked(errors, errors), lever_doubts.ranked(errors, -errors)
    assert set(best) == set(lever_doubts.SCORES)
    assert best["uncertainty_spearman"] == pytest.approx(1.0)
    assert all(best[key] < 1.0 < worst[key] for key in ("certain_half_error", "certain_half_median"))
