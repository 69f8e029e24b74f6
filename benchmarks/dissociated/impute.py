"""Genes held out of a section and predicted for its spots from the dissociated cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from benchmarks.dissociated.controls import best, correlations
from benchmarks.dissociated.scores import Floats, Scores
from benchmarks.dissociated.tasks import normalised, paired
from benchmarks.methods.arrays import dense

N_GENES = 50
_LEAST_SHARE = 0.1  # of spots and of cells that must hold a gene, or its Pearson correlation is one of noise
_N_CELLS = 50
_PAIRS = {
    "impute_mop": ("mouse_mop_merfish_spots", "mouse_mop_sc20k"),
    "impute_zeisel": ("mouse_v1_starmap_1k", "mouse_cortex_zeisel550_sc"),
}
TASKS = tuple(_PAIRS)


@dataclass(frozen=True)
class Imputation:
    """A section without some genes, cells with all of them, and what was measured.

    Attributes
    ----------
    section
        Log-normalised expression without the hidden genes, with places.
    cells
        Log-normalised expression, hidden genes included.
    genes
        The hidden genes.
    measured
        Their expression in the section, ``(n_spots, n_genes)``, for scores alone.
    """

    section: ad.AnnData
    cells: ad.AnnData
    genes: tuple[str, ...]
    measured: Floats

    @property
    def seen(self) -> ad.AnnData:
        """The cells without the hidden genes."""
        return self.cells[:, self.section.var_names].copy()

    @property
    def values(self) -> Floats:
        """The hidden genes in the cells."""
        return dense(self.cells[:, list(self.genes)])

    def scored(self, predicted: Floats) -> Scores:
        """Pearson correlations over spots, a gene each; 0 for a gene that is predicted the same everywhere."""
        found = np.array([_pearson(*pair) for pair in zip(self.measured.T, predicted.T, strict=True)])
        return {
            "pearson_median": float(np.median(found)),
            "pearson_mean": float(found.mean()),
            "pearson_low": float(np.quantile(found, 0.25)),
            "pearson_high": float(np.quantile(found, 0.75)),
        }


def load(task: str, folder: Path, seed: int) -> Imputation:
    """Hide genes from a section: totals do not count them either."""
    section, cells = paired(folder, *_PAIRS[task])
    genes = hidden(section, cells, seed)
    known, unplaced = normalised(section, cells, hidden=genes)
    measured = dense(known[:, list(genes)])
    return Imputation(known[:, ~known.var_names.isin(genes)].copy(), unplaced, genes, measured)


def some(given: Imputation, n_cells: int, seed: int) -> Imputation:
    """The same with a random subset of the cells, where there are more."""
    if given.cells.n_obs <= n_cells:
        return given
    kept = np.sort(np.random.default_rng(seed).choice(given.cells.n_obs, n_cells, replace=False))
    return Imputation(given.section, given.cells[kept].copy(), given.genes, given.measured)


def hidden(section: ad.AnnData, cells: ad.AnnData, seed: int) -> tuple[str, ...]:
    """Random genes among those that a tenth of the spots and of the cells hold."""
    shares = [np.asarray((sparse.csr_matrix(side.X) > 0).mean(axis=0)).ravel() for side in (section, cells)]
    enough = np.flatnonzero(np.minimum(*shares) >= _LEAST_SHARE)
    chosen = np.random.default_rng(seed).choice(enough, min(N_GENES, len(enough) // 2), replace=False)
    return tuple(section.var_names[np.sort(chosen)])


def nearest_cells(given: Imputation, seed: int) -> Floats:
    """Mean of the cells that correlate best with a spot by the genes that both hold."""
    chosen = best(correlations(dense(given.section), dense(given.seen)), _N_CELLS)
    mean: Floats = given.values[chosen].mean(axis=1)
    return mean


def any_cells(given: Imputation, seed: int) -> Floats:
    """Mean of as many random cells for every spot: chance."""
    chosen = np.random.default_rng(seed).integers(given.cells.n_obs, size=(given.section.n_obs, _N_CELLS))
    mean: Floats = given.values[chosen].mean(axis=1)
    return mean


CONTROLS: dict[str, Callable[[Imputation, int], Floats]] = {"nearest_cells": nearest_cells, "any_cells": any_cells}


def _pearson(one: Floats, other: Floats) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
