"""Slides of a task as encoders see them that never saw their coordinates, kept on disk for all that share them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.tasks import tasks
from ipar.training import EncoderRecipe, Folds, Recipe, Run, SlideSet, fit_embedding
from ipar.training.minisets import Miniset, sample_minisets
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide

FloatArray = NDArray[np.float32]

RECIPE = Recipe.fast().embed
"""The encoder of ``fit_ipalite(quality="fast")``."""
_PER_SLIDE = ("train", "coords", "across")


@dataclass(frozen=True)
class Embedded:
    """A task's slides, embedded.

    Attributes
    ----------
    train, coords
        Cross-fitted embeddings ``(n_s, d)`` and coordinates ``(n_s, 2)`` of the training slides.
    across
        Their cross-fitted global features, ``(n_s, g)``, each in a space of its own.
    test
        Embedding of the test slide by the encoder trained on all training slides.
    truth
        Coordinates of the test slide. Apart, for scores alone.
    """

    train: list[FloatArray]
    coords: list[FloatArray]
    across: list[FloatArray]
    test: FloatArray
    truth: FloatArray

    def scored(self, n_minisets: int, size: tuple[int, int], n_neighbors: int, seed: int) -> list[Miniset]:
        """Minisets of the test slide, for scores alone."""
        pair = ([torch.from_numpy(self.test)], [torch.from_numpy(self.truth)])
        return sample_minisets(*pair, n_minisets, size=size, n_neighbors=n_neighbors, random_state=seed)


def embedded(task: str, seed: int, data: Path, cache: Path) -> Embedded:
    """Embed a task's slides, or read them from the cache.

    Parameters
    ----------
    task, seed
        Name of the task, and seed of the encoder.
    data, cache
        Folders of the slides and of the embeddings.
    """
    path = cache / "fast" / f"{task}-{seed}.npz"
    if not path.is_file():
        found = embed(tasks.load(tasks.TASKS[task], data), seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".part.npz")
        parts = {name: getattr(found, name) for name in _PER_SLIDE}
        names = {f"{name}{i}": x for name, part in parts.items() for i, x in enumerate(part)}
        np.savez(staging, test=found.test, truth=found.truth, **names)
        os.replace(staging, path)
    with np.load(path) as stored:
        numbers = range(sum(name.startswith("train") for name in stored))
        parts = {name: [stored[f"{name}{i}"] for i in numbers] for name in _PER_SLIDE}
        return Embedded(**parts, test=stored["test"], truth=stored["truth"])


def embed(slides: tasks.Slides, seed: int, *, recipe: EncoderRecipe = RECIPE) -> Embedded:
    """Cross-fit the encoder on the training slides, as a fit does, and embed the test slide."""
    known, run = slide_set(slides.train), Run(seed)
    fit = fit_embedding(known, Folds.for_slides(known, run), recipe, run)
    test = embed_slide(fit.encoder, unplaced(slides.query)).embedding
    return Embedded(fit.cross_fitted, known.coords, fit.cross_fitted_global, test, slides.truth.astype(np.float32))


def slide_set(adata: ad.AnnData) -> SlideSet:
    """Training slides as stages of a fit take them."""
    coords = np.asarray(adata.obsm["spatial"], dtype=np.float32)
    labels = pd.Categorical(adata.obs["slide"]).remove_unused_categories()
    return SlideSet.of(expression(adata), adata.var_names, coords, labels)


def unplaced(adata: ad.AnnData) -> Slide:
    """A slide to place: whoever reads its coordinates gets NaN."""
    return Slide(expression(adata), np.full((adata.n_obs, 2), np.nan, dtype=np.float32), "query")


def expression(adata: ad.AnnData) -> sparse.csr_matrix:
    """Log-normalised expression, CSR float32."""
    return sparse.csr_matrix(adata.X, dtype=np.float32)
