from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ablations import doubts
from benchmarks.ablations.fits import Placed, read
from benchmarks.tasks.scores import ranked
from ipar.training import Run


def test_the_default_row_is_what_predictions_have(fitted, names_of):
    query = read(fitted.slides)[1]
    found = doubts.signs(Placed.by(fitted.model, query, 3), 3)
    assert list(found) == names_of("doubts")
    default = next(sign for name, sign in found.items() if name.endswith("(the default)"))
    features = fitted.model.features(query.expression, fitted.model.encoder.genes, query.labels)
    expected = fitted.model.expected_error(features, Run(3))  # predictions raise it where a cell has few counts
    assert np.diff(expected[np.argsort(default)]).min() >= 0
    assert len(np.unique(expected)) > 5
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
