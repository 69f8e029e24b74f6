"""The tasks: a section that teaches, cells to place in its frame, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.ablations import folds
from benchmarks.ablations.spots import as_spots
from benchmarks.dissociated.scores import Canvas, Floats, Half, Layers, Rows, Section, Truth
from benchmarks.tasks import tasks
from benchmarks.tasks.embedded import slide_set

UPPER = ("Lamp5", "Calb1")
DEEP = ("Foxp2", "Syt6", "Rprm", "Hs3st4")
"""Markers of upper layers and of layer 6, in both panels."""

_MOP_LAYERS = {"L2/3": 0, "L5": 1, "L6": 2}
_S1_LAYERS = {"S1_Excitatory_L23": 0, "S1_Excitatory_L45a": 1}
_WHITE_MATTER = ("Oligo_MF", "Oligo_Mature")
_HIPPOCAMPAL = "Hippocampus_Excitatory"
_HIPPO = tasks.Task("hippo", "mouse_brain_st.h5ad", "Hippo3", ("Hippo1",), "")
_SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Dissociated:
    """A section and the cells to place in its frame.

    Attributes
    ----------
    section
        Log-normalised expression, with places in ``obsm["spatial"]``.
    cells
        Log-normalised expression of the same genes; nothing else.
    truth
        What the places are scored by. Methods do not get it.
    rows
        Numbers of the cells among those that the truth knows.
    """

    section: ad.AnnData
    cells: ad.AnnData
    truth: Truth
    rows: Rows

    def some(self, n_cells: int, seed: int) -> Dissociated:
        """A random subset of the cells, where there are more."""
        if self.cells.n_obs <= n_cells:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(self.cells.n_obs, n_cells, replace=False))
        return replace(self, cells=self.cells[kept].copy(), rows=self.rows[kept])


def mop(folder: Path, seed: int) -> Dissociated:
    """Motor cortex: single cells on MERFISH spots."""
    section, cells = paired(folder, "mouse_mop_merfish_spots", "mouse_mop_sc20k")
    layer = cells.obs["cell_type"].astype(str).str.split().str[0]
    rank = layer.map(_MOP_LAYERS).to_numpy(dtype=np.float64)
    bare = normalised(section, cells)
    return _dissociated(*bare, Layers(rank, depth_of(bare[0])))


def zeisel(folder: Path, seed: int) -> Dissociated:
    """Somatosensory cortex and hippocampus: single cells on a STARmap section of visual cortex."""
    section, cells = paired(folder, "mouse_v1_starmap_1k", "mouse_cortex_zeisel550_sc")
    kind = cells.obs["cell_type"].astype(str)
    groups = _S1_LAYERS | dict.fromkeys(_WHITE_MATTER, len(_S1_LAYERS))
    bare = normalised(section, cells)
    truth = Layers(
        rank=kind.map(_S1_LAYERS).to_numpy(dtype=np.float64),
        depth=depth_of(bare[0]),
        groups=kind.map(groups).fillna(-1).to_numpy(dtype=np.intp),
        foreign=(kind == _HIPPOCAMPAL).to_numpy(),
    )
    return _dissociated(*bare, truth)


def e1z2(folder: Path, seed: int) -> Dissociated:
    """An embryo: single cells on spots that sum cells of the same slice, part of the query among them."""
    section, cells = paired(folder, "mouse_embryo_e1z2_spots", "mouse_embryo_e1z2_cells20")
    truth = Canvas(places(cells), cells.obs["in_training_spot"].to_numpy(dtype=bool))
    return _dissociated(*normalised(section, cells, counts=(True, False)), truth)


def embryo_half(folder: Path, seed: int) -> Dissociated:
    """An embryo of single cells: a random half, pooled to spots, teaches; the other half is placed."""
    half = folds.halves(tasks.load(folds.EMBRYO, folder), seed, 1)
    spots = as_spots(slide_set(half.train)[0])
    section = ad.AnnData(spots.expression, var=half.train.var[[]].copy())
    coords = spots.coords.astype(np.float64)
    section.obsm["spatial"] = coords
    radius = float(np.sqrt(np.square(coords - coords.mean(axis=0)).sum(axis=1).mean()))
    return _dissociated(section, ad.AnnData(half.query.X, var=section.var.copy()), Half(half.truth, radius))


def hippo(folder: Path, seed: int) -> Dissociated:
    """A half brain: one section teaches another."""
    slides = tasks.load(_HIPPO, folder)
    section = ad.AnnData(slides.train.X, var=slides.train.var[[]].copy(), obsm={"spatial": places(slides.train)})
    return _dissociated(section, ad.AnnData(slides.query.X, var=section.var.copy()), Section(slides.truth))


TASKS: dict[str, Callable[[Path, int], Dissociated]] = {
    "mop": mop,
    "zeisel": zeisel,
    "e1z2": e1z2,
    "embryo_half": embryo_half,
    "hippo": hippo,
}


def paired(folder: Path, section: str, cells: str) -> tuple[ad.AnnData, ad.AnnData]:
    """The two files of a task, of the genes that both have, rows shuffled."""
    found = []
    for name in (section, cells):
        path = folder / f"{name}.h5ad"
        if not path.is_file():
            msg = f"{path} does not exist; give the folder of the data with --data."
            raise FileNotFoundError(msg)
        whole = ad.read_h5ad(path)
        found.append(whole[np.random.default_rng(_SHUFFLE_SEED).permutation(whole.n_obs)])
    shared = found[0].var_names.intersection(found[1].var_names)
    return found[0][:, shared].copy(), found[1][:, shared].copy()


def places(adata: ad.AnnData) -> Floats:
    """Measured places, a copy."""
    return np.array(adata.obsm["spatial"], dtype=np.float64)


def normalised(
    section: ad.AnnData,
    cells: ad.AnnData,
    *,
    counts: tuple[bool, bool] = (True, True),
    hidden: Sequence[str] = (),
) -> tuple[ad.AnnData, ad.AnnData]:
    """Both sides, bare, scaled to the section's median total and log1p-transformed.

    Parameters
    ----------
    section, cells
        Counts of the same genes.
    counts
        Whether the section and the cells are counts; what is not is log-normalised already and stays as it is.
    hidden
        Genes that do not count in totals, as if the section had never measured them.
    """
    counted = ~section.var_names.isin(list(hidden))
    target = float(np.median(_totals(section, counted)))
    bare = [_bare(side, counted, target if raw else None) for side, raw in zip((section, cells), counts, strict=True)]
    bare[0].obsm["spatial"] = places(section)
    return bare[0], bare[1]


def depth_of(section: ad.AnnData) -> Floats:
    """Direction of cortical depth: the gradient of layer-6 markers less upper ones, from the section alone."""
    names = section.var_names
    deep, upper = (section[:, [g for g in genes if g in names]].X.toarray() for genes in (DEEP, UPPER))
    contrast = _z_scores(deep).mean(axis=1) - _z_scores(upper).mean(axis=1)
    coords = places(section)
    slope = np.linalg.lstsq(coords - coords.mean(axis=0), contrast - contrast.mean(), rcond=None)[0]
    direction: Floats = slope / np.linalg.norm(slope)
    return direction


def _dissociated(section: ad.AnnData, cells: ad.AnnData, truth: Truth) -> Dissociated:
    return Dissociated(section, cells, truth, np.arange(cells.n_obs))


def _bare(adata: ad.AnnData, counted: np.ndarray, target: float | None) -> ad.AnnData:
    x = sparse.csr_matrix(adata.X, dtype=np.float32)
    if target is not None:
        totals = np.maximum(_totals(adata, counted), 1.0)
        x = sparse.csr_matrix(sparse.diags(target / totals) @ x, dtype=np.float32).log1p()
    names = pd.DataFrame(index=[f"row{i}" for i in range(adata.n_obs)])  # the file's may tell array positions
    return ad.AnnData(x, obs=names, var=adata.var[[]].copy())


def _totals(adata: ad.AnnData, counted: np.ndarray) -> Floats:
    return np.asarray(sparse.csr_matrix(adata.X)[:, counted].sum(axis=1), dtype=np.float64).ravel()


def _z_scores(x: Floats) -> Floats:
    scores: Floats = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    return scores
