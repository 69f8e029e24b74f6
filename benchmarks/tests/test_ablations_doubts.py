from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

import ipar
from benchmarks.ablations import doubts
from benchmarks.ablations.fits import Placed, read
from benchmarks.tasks.scores import ranked


def test_the_default_row_is_what_predictions_have(fitted, names_of):
    query = fitted.slides.query.copy()
    ipar.tl.predict_coords(query, fitted.model, random_state=3, progress=False)
    found = doubts.signs(Placed.by(fitted.model, read(fitted.slides)[1], 3), 3)
    assert list(found) == names_of("doubts")
    default = next(sign for name, sign in found.items() if name.endswith("(the default)"))
    # steps of the map to errors tie some
    assert spearmanr(default, query.obs["ipar_uncertainty"]).statistic > 0.9
    assert len({sign.tobytes() for sign in found.values()}) == len(found) == 6


def test_every_sign_is_ranked(fitted, monkeypatch):
    monkeypatch.setattr(doubts, "fit_model", lambda *_: fitted.model)
    found = doubts.measure(fitted.slides, 0)
    assert all(set(row) == set(doubts.SCORES) for row in found.values())


def test_disagreement_is_blind_to_frames():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(80, 2)).astype(np.float32)
    turned = 3.0 * first @ np.array([[0.6, -0.8], [0.8, 0.6]]) + 5.0
    assert doubts.disagreement(first, [first, turned]).max() < 1e-5
    moved = turned.copy()
    moved[7] += 6.0
    gaps = doubts.disagreement(first, [first, moved.astype(np.float32)])
    assert gaps.argmax() == 7


def test_ranks_of_errors():
    errors = np.random.default_rng(1).gamma(2.0, size=501)
    best, worst = ranked(errors, errors), ranked(errors, -errors)
    assert set(doubts.SCORES) < set(best)
    assert best["uncertainty_spearman"] == pytest.approx(1.0)
    assert all(best[key] < 1.0 < worst[key] for key in ("certain_half_error", "certain_half_median"))
