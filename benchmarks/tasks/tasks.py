"""The benchmark's tasks: which slides are trained on, which one is placed, and how the files are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from numpy.typing import NDArray

_KEPT_OBS = ("slide", "cell_type")  # all that a method may know of a query cell beside its expression
_SHUFFLE_SEED = 0
_TARGET_SUM = 1e4


@dataclass(frozen=True)
class Task:
    """Slides to learn from and the slide to place.

    Attributes
    ----------
    name
        Name on the command line.
    file
        File of the data folder.
    test
        Slide whose coordinates are predicted.
    train
        Slides with known coordinates; all others, if None.
    kind
        What it is, for the report.
    counts
        Whether the file holds raw counts, which are then normalised to 10,000 per cell and log1p-transformed.
    """

    name: str
    file: str
    test: str
    train: tuple[str, ...] | None
    kind: str
    counts: bool = True


_BRAIN = "mouse half brain, ST spots"
_EMBRYO = "mouse embryo, seqFISH, single cells"

TASKS = {
    task.name: task
    for task in (
        Task("brain2", "mouse_brain_st.h5ad", "Hippo3", ("Hippo1", "Hippo2"), _BRAIN),
        Task("brain7", "mouse_brain_st.h5ad", "Hippo3", None, _BRAIN),
        Task("brain7b", "mouse_brain_st.h5ad", "Hippo6", None, _BRAIN),
        Task("embryo", "mouse_embryo_seqfish.h5ad", "embryo3", ("embryo1", "embryo2"), _EMBRYO, counts=False),
        Task("embryo_b", "mouse_embryo_seqfish.h5ad", "embryo2", ("embryo1", "embryo3"), _EMBRYO, counts=False),
        Task("ob", "mouse_ob_st.h5ad", "MOB4", ("MOB1", "MOB2", "MOB3"), "olfactory bulb, ST spots, weak signal"),
        Task("liver", "mouse_liver_st.h5ad", "CN65_E1", None, "mouse liver, ST spots: lobules repeat"),
    )
}


@dataclass(frozen=True)
class Slides:
    """A task's data, the truth apart from what methods get.

    Attributes
    ----------
    train
        Training slides with ``obsm["spatial"]``.
    query
        The test slide: expression, slide name and cell-type labels where there are any. Nothing else of the file is
        carried over, so that no method can read a coordinate of it.
    truth
        Coordinates of the test slide, ``(n_query, 2)``.
    """

    train: ad.AnnData
    query: ad.AnnData
    truth: NDArray[np.float64]


def load(task: Task, folder: Path) -> Slides:
    """Read a task's slides, rows shuffled (raw files are usually ordered in space) and log-normalised.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    ValueError
        If it lacks a slide of the task.
    """
    path = folder / task.file
    if not path.is_file():
        msg = f"task {task.name!r} needs {path}, which does not exist; give the folder of the data with --data."
        raise FileNotFoundError(msg)
    return split(ad.read_h5ad(path), task)


def split(adata: ad.AnnData, task: Task) -> Slides:
    """Training slides, stripped query and truth of a task, from all slides of its file."""
    slides = adata.obs["slide"].astype(str).to_numpy()
    train = tuple(sorted(set(slides) - {task.test})) if task.train is None else task.train
    missing = sorted({task.test, *train} - set(slides))
    if missing or not train:
        msg = (
            f"task {task.name!r} needs slides {missing or 'beside the test slide'}; the file has {sorted(set(slides))}."
        )
        raise ValueError(msg)
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(adata.n_obs)
    known, unseen = (adata[order[np.isin(slides[order], names)]] for names in (train, (task.test,)))
    truth = np.array(unseen.obsm["spatial"], dtype=np.float64)
    training = _strip(known, task)
    training.obsm["spatial"] = np.array(known.obsm["spatial"], dtype=np.float64)
    return Slides(training, _strip(unseen, task), truth)


def _strip(adata: ad.AnnData, task: Task) -> ad.AnnData:
    """Log-normalised expression, gene names and the allowed columns of ``obs``, in an object of its own."""
    obs = adata.obs[[name for name in _KEPT_OBS if name in adata.obs]].copy()
    obs["slide"] = obs["slide"].astype(str).astype("category")
    # names are numbered anew: the file's may tell array positions
    obs.index = [f"{slide}_{number}" for number, slide in enumerate(obs["slide"])]
    bare = ad.AnnData(adata.X.copy(), obs=obs, var=adata.var[[]].copy())
    if task.counts:
        sc.pp.normalize_total(bare, target_sum=_TARGET_SUM)
        sc.pp.log1p(bare)
        bare.uns.pop("log1p", None)
    return bare
