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
from ipar.training import EncoderRecipe, Folds, Run, SetEncoderTraining, SlideSet, fit_embedding
from ipar.training.minisets import Miniset, sample_minisets
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide

FloatArray = NDArray[np.float32]

# members of the family are compared, not inputs; the set encoder has no part in the embedding, so that one step does
RECIPE = EncoderRecipe(inputs="pca", set_encoder_training=SetEncoderTraining(n_steps=1))


@dataclass(frozen=True)
class Embedded:
    """A task's slides, embedded.

    Attributes
    ----------
    train, coords
        Cross-fitted embeddings ``(n_s, d)`` and coordinates ``(n_s, 2)`` of the training slides.
    test
        Embedding of the test slide by the encoder trained on all training slides.
    truth
        Coordinates of the test slide. Apart, for scores alone.
    """

    train: list[FloatArray]
    coords: list[FloatArray]
    test: FloatArray
    truth: FloatArray

    def scored(self, n_minisets: int, size: tuple[int, int], n_neighbors: int, seed: int) -> list[Miniset]:
        """Minisets of the test slide, for scores alone."""
        pair = ([torch.from_numpy(self.test)], [torch.from_numpy(self.truth)])
        return sample_minisets(*pair, n_minisets, size=size, n_neighbors=n_neighbors, random_state=seed)


def embedded(task: str, seed: int, data: Path, cache: Path, *, max_cells: int = 1500) -> Embedded:
    """Embed a task's slides, or read them from the cache.

    Parameters
    ----------
    task, seed
        Name of the task, and seed of the encoder and of the cells that are kept.
    data, cache
        Folders of the slides and of the embeddings.
    max_cells
        Cells per slide; of larger ones a random subset.
    """
    path = cache / f"{task}-{seed}-{max_cells}.npz"
    if not path.is_file():
        found = embed(tasks.load(tasks.TASKS[task], data), seed, max_cells=max_cells)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".part.npz")
        parts = {"train": found.train, "coords": found.coords}
        names = {f"{name}{i}": x for name, part in parts.items() for i, x in enumerate(part)}
        np.savez(staging, test=found.test, truth=found.truth, **names)
        os.replace(staging, path)
    with np.load(path) as stored:
        numbers = range(sum(name.startswith("train") for name in stored))
        train, coords = ([stored[f"{name}{i}"] for i in numbers] for name in ("train", "coords"))
        return Embedded(train, coords, stored["test"], stored["truth"])


def embed(slides: tasks.Slides, seed: int, *, max_cells: int, recipe: EncoderRecipe = RECIPE) -> Embedded:
    """Cross-fit the encoder on the training slides and embed the test slide."""
    known = slide_set(_thinned(slides.train, max_cells, seed))
    chosen = _rows(slides.query.n_obs, max_cells, seed)
    run = Run(seed)
    fit = fit_embedding(known, Folds.of(known.sizes, run, n_folds=len(known)), recipe, run)
    test = embed_slide(fit.encoder, unplaced(slides.query[chosen])).embedding
    return Embedded(fit.cross_fitted, known.coords, test, slides.truth[chosen].astype(np.float32))


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


def _rows(n_cells: int, max_cells: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[:max_cells])


def _thinned(adata: ad.AnnData, max_cells: int, seed: int) -> ad.AnnData:
    cells = [np.flatnonzero(adata.obs["slide"] == name) for name in adata.obs["slide"].cat.categories]
    return adata[np.concatenate([own[_rows(len(own), max_cells, seed)] for own in cells])].copy()
