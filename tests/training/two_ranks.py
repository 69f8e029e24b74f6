"""A fit as a script that may run in several processes; writes weights and history of every rank."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import ipar
from ipar.model.loading import plain_model
from ipar.training import IPALiteTraining
from tests.conftest import SMALL_RECIPE, simulate

NETWORK = replace(SMALL_RECIPE.network, training=IPALiteTraining(gate_steps=20))  # with its own learning rate
RECIPE = replace(SMALL_RECIPE, embed=replace(SMALL_RECIPE.embed, inputs="both"), network=NETWORK, flow=None)


def fit(**engine):
    """Everything that is trained, by name."""
    adata = simulate()
    options = {"recipe": RECIPE, "max_epochs": 2, "precision": "32-true", "progress": False} | engine
    model = ipar.tl.fit_ipalite(adata, "slide", **options)
    found = dict(arrays(plain_model(model)))
    history = adata.uns["ipar"]["history"]
    return found | {f"history {name}": history[name].to_numpy(dtype=float) for name in history}


def arrays(values, path=""):
    """Arrays in nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from arrays(value, f"{path} {key}")
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            yield f"{path} {key}", value


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, long = Path(sys.argv[1]), "LONG" in os.environ
    if long:
        (folder / f"began{os.environ.get('LOCAL_RANK', '0')}").touch()
    engine = {"accelerator": "cpu", "devices": 2, "strategy": sys.argv[2]}
    found = fit(**engine, max_epochs=10_000 if long else 2)
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    np.savez(folder / f"{rank}.npz", **found)
