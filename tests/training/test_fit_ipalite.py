from __future__ import annotations

import pytest

from ipar.training._fit_ipalite import BETAS, choose_beta


@pytest.mark.parametrize(
    ("at", "energy", "chosen"),
    [
        (0.25, 0.94, 0.25),  # by more than a twentieth
        (0.25, 0.96, 2.0),  # not worth leaving what was trained
        (2.0, 0.5, 2.0),
        (4.0, 0.9, 4.0),
    ],
)
def test_beta_leaves_the_trained_one_for_a_clear_gain_only(at, energy, chosen):
    energies = [1.0] * len(BETAS)
    energies[BETAS.index(at)] = energy
    assert choose_beta(energies, 2.0) == chosen


def test_a_trained_beta_that_was_not_tried_gives_way_to_the_best():
    energies = [1.0] * len(BETAS)
    energies[BETAS.index(0.5)] = 0.999
    assert choose_beta(energies, 3.0) == 0.5
