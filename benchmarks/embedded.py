"""Slides of a task as an encoder sees them that never saw their coordinates, kept on disk for all that share them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

import tasks
from ipar._anndata import get_coords
from ipar._expression import get_expression
from ipar.training import EncoderRecipe, Miniset, OverviewTraining, Slide, fit_embedding, sample_minisets
from ipar.training.embedding import embed_slide

if TYPE_CHECKING:
    import anndata as ad

FloatArray = NDArray[np.float32]

_INPUTS = "pca"  # fixed: members of the family are compared, not inputs


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
        Cells a slide; of larger ones a random subset.
    """
    path = cache / f"{task}-{seed}-{max_cells}.npz"
    if not path.is_file():
        found = embed(tasks.load(tasks.TASKS[task], data), seed, max_cells=max_cells)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".part.npz")
        names = {f"train{i}": x for i, x in enumerate(found.train)} | {
            f"coords{i}": x for i, x in enumerate(found.coords)
        }
        np.savez(staging, test=found.test, truth=found.truth, **names)
        os.replace(staging, path)
    with np.load(path) as stored:
        numbers = range(sum(name.startswith("train") for name in stored))
        train, coords = ([stored[f"{name}{i}"] for i in numbers] for name in ("train", "coords"))
        return Embedded(train, coords, stored["test"], stored["truth"])


def embed(slides: tasks.Slides, seed: int, *, max_cells: int, recipe: EncoderRecipe | None = None) -> Embedded:
    """Cross-fit the encoder on the training slides and embed the test slide."""
    # the set encoder has no part in the embedding: one step of it is as good as any
    recipe = recipe or EncoderRecipe(overview_training=OverviewTraining(n_steps=1))
    train, query = _thinned(slides.train, max_cells, seed), _rows(slides.query, max_cells, seed)
    genes, fitted = get_expression(train).genes, _slides(train)
    fit = fit_embedding(fitted, genes, inputs=_INPUTS, recipe=recipe, n_folds=len(fitted), random_state=seed)
    unseen = get_expression(slides.query[query].copy()).matrix
    nowhere = np.zeros((unseen.shape[0], 2), dtype=np.float32)  # the encoder reads no coordinates of what it embeds
    test = embed_slide(fit.encoder, Slide(unseen, nowhere, "test"), genes)
    return Embedded(fit.cross_fitted, [s.coords for s in fitted], test, slides.truth[query].astype(np.float32))


def _rows(adata: ad.AnnData, max_cells: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(adata.n_obs)[:max_cells])


def _thinned(adata: ad.AnnData, max_cells: int, seed: int) -> ad.AnnData:
    names: Sequence[str] = adata.obs["slide"].cat.categories
    cells = [np.flatnonzero(adata.obs["slide"] == name) for name in names]
    return adata[np.concatenate([own[_rows(adata[own], max_cells, seed)] for own in cells])].copy()


def _slides(adata: ad.AnnData) -> list[Slide]:
    expression, coords = get_expression(adata), get_coords(adata)
    found = []
    for name in adata.obs["slide"].cat.categories:
        own = np.flatnonzero(adata.obs["slide"] == name)
        found.append(Slide(expression.matrix[own], coords[own], str(name)))
    return found
