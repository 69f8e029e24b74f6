from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

# the benchmark is a folder of scripts, not a package
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

N_CELLS, N_GENES = 80, 40


def make_slides(*, seed: int = 0) -> ad.AnnData:
    """Counts of four slides named as the olfactory bulb's, each turned or mirrored, with types in stripes."""
    rng = np.random.default_rng(seed)
    waves, phase = rng.normal(size=(2, N_GENES)), rng.uniform(0, 2 * np.pi, N_GENES)
    counts, coords, obs = [], [], []
    for number in range(1, 5):
        place = rng.uniform(-1, 1, (N_CELLS, 2)) * [1.6, 1.0]
        counts.append(rng.poisson(8 * np.exp(np.sin(place @ waves + phase))))
        turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
        coords.append(900 * place @ turn)
        stripe = np.digitize(place[:, 0], [-0.8, 0.0, 0.8]) * 2 + (place[:, 1] > 0)
        obs.append(pd.DataFrame({"slide": f"MOB{number}", "cell_type": [f"type{i}" for i in stripe]}))
    table = pd.concat(obs, ignore_index=True).astype("category")
    table.index = [f"cell{i}" for i in range(len(table))]
    table["array_row"] = np.concatenate(coords)[:, 0]  # a coordinate under another name
    adata = ad.AnnData(np.concatenate(counts).astype(np.float32), obs=table)
    adata.obsm["spatial"] = np.concatenate(coords)
    adata.obsm["other"] = np.concatenate(coords)
    adata.uns["positions"] = np.concatenate(coords)
    return adata


@pytest.fixture(scope="session")
def adata() -> ad.AnnData:
    return make_slides()


@pytest.fixture(scope="session")
def slides(adata):
    import tasks

    return tasks.split(adata, tasks.TASKS["ob"])


@pytest.fixture(scope="session")
def hasty_recipe():
    """An encoder of few weights that is hardly trained."""
    from ipar.training import EncoderRecipe, EncoderTraining, OverviewTraining

    few = EncoderTraining(n_steps=5, batch_size=32)
    return EncoderRecipe(
        n_pcs=6,
        n_output=8,
        pca_hidden=(8,),
        genes_hidden=(8,),
        pca_training=few,
        genes_training=few,
        overview_training=OverviewTraining(n_steps=2, batch_size=1, size=(16, 32)),
    )
