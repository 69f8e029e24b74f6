from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from ipar.model import IPALite, Sharpening
from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training import (
    EncoderRecipe,
    EncoderTraining,
    FinishRecipe,
    FlowRecipe,
    FlowTraining,
    IPALiteTraining,
    MinisetPlan,
    NetworkRecipe,
    Recipe,
    SetEncoderTraining,
    SlideSet,
)
from ipar.training.slides import Slide

if TYPE_CHECKING:
    from benchmarks.tasks.tasks import Slides

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are run from there
torch.set_num_threads(1)  # networks this small only wait for more

N_CELLS, N_GENES = 80, 40
FEW = EncoderTraining(n_steps=5, batch_size=32)
HASTY = EncoderRecipe(
    n_pcs=6,
    n_output=8,
    pca_hidden=(8,),
    genes_hidden=(8,),
    pca_training=FEW,
    genes_training=FEW,
    set_encoder_training=SetEncoderTraining(n_steps=2, batch_size=1, size=(16, 32)),
)
SMALL = Recipe(
    embed=HASTY,
    network=NetworkRecipe(
        config=IPALiteConfig(d_state=16, n_heads=2, d_head=8, n_recycles=2),
        training=IPALiteTraining(gate_steps=5, lr=2e-3, max_epochs=2, ramp_epochs=1),
        plan=MinisetPlan(n_minisets=4, size=(40, 60), n_neighbors=20),
    ),
    flow=FlowRecipe(
        config=IGAConfig(d_state=16, n_heads=2, d_head=8, n_blocks=2),
        training=FlowTraining(gate_steps=5, max_epochs=2),
        plan=MinisetPlan(n_minisets=4, size=(40, 60), n_neighbors=16),
    ),
    finish=FinishRecipe(sharpening=Sharpening(n_steps=40), n_minisets=2),
)


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
def slides(adata) -> Slides:
    """One of them to place."""
    from benchmarks.tasks import tasks

    return tasks.split(adata, tasks.TASKS["ob"])


@pytest.fixture(scope="session")
def hasty_recipe() -> EncoderRecipe:
    """An encoder of few weights that is hardly trained."""
    return HASTY


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """All stages, hardly trained."""
    return SMALL


@dataclass(frozen=True)
class Fitted:
    """A model and the slide to place; tests change neither."""

    slides: Slides
    model: IPALite


@pytest.fixture(scope="session")
def fitted(slides) -> Fitted:
    """A model of all stages, hardly trained."""
    from benchmarks.ablations.fits import fit_model

    return Fitted(slides, fit_model(slides, 0, SMALL))


@pytest.fixture(scope="session")
def cells():
    """Slides of thirty genes that tell the place."""

    def make(seed: int, n: int = 80, name: str = "s") -> Slide:
        rng = np.random.default_rng(seed)
        x = rng.random((n, 2)).astype(np.float32)
        values = np.maximum(np.cos(x @ rng.normal(size=(2, 30)) * 4) + rng.normal(size=(n, 30)) / 4, 0)
        return Slide(sparse.csr_matrix(values.astype(np.float32)), x, f"{name}{seed}")

    return make


@pytest.fixture(scope="session")
def slide_set(cells) -> SlideSet:
    """Two of them."""
    return SlideSet((cells(0), cells(1)), pd.Index([f"g{i}" for i in range(30)]))


@pytest.fixture(scope="session")
def names_of():
    """Names of the layouts of a group in the records of a fold, without what teaches."""
    from benchmarks.tasks.records import RESULTS, read

    def names(group: str, fold: str = "") -> list[str]:
        runs = [
            one for one in read("ablations", ROOT / RESULTS) if one["group"] == group and one["fold"].startswith(fold)
        ]
        return [name.split(" teach: ")[-1].split("an embryo: ")[-1] for name in runs[0]["layouts"]]

    return names
