"""AnnData from a simulated tissue: slides with coordinates, or dissociated cells without."""

from __future__ import annotations

import operator
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ipar._seeds import as_seed
from ipar.datasets._expression import Genes, Technology, draw_counts, draw_genes, log_normalise
from ipar.datasets._sections import Floats, Piece, Tissue, as_categories, mount, slide_column

# a targeted in situ panel has lower depth, more dropout and more ambient molecules than droplets
SPATIAL = Technology(median_counts=3000.0, depth_sd=0.45, dropout=0.8, shift_sd=0.25, scale_sd=0.1, ambient=0.08)
DROPLET = Technology(median_counts=6000.0, depth_sd=0.35, dropout=0.2, shift_sd=0.6, scale_sd=0.15, ambient=0.03)


def simulate_slides(
    tissue: Tissue,
    n_slides: int,
    n_cells: int,
    n_genes: int,
    median_counts: float,
    batch_strength: float,
    random_state: int | np.random.Generator | None,
) -> ad.AnnData:
    """Simulate sections of `tissue`, as `ipar.datasets.layered_tissue` returns them."""
    n_slides, n_cells, n_genes = _at_least("n_slides", n_slides, 1), *_check_size(n_cells, n_genes)
    technology = _technology(SPATIAL, median_counts, batch_strength)
    seed = as_seed(random_state)
    genes = draw_genes(_stream(seed, "genes"), tissue, n_genes)
    pieces, coords, counts = [], [], []
    for slide in range(n_slides):
        rng = _stream(seed, "slides", slide)
        piece = tissue.cut(rng, n_cells, True)
        pieces.append(piece)
        coords.append(mount(rng, piece.coords))
        counts.append(draw_counts(rng, piece, genes, tissue, technology))
    obs = pd.concat([_annotate(tissue, piece) for piece in pieces], ignore_index=True)
    obs.insert(0, "slide", slide_column(n_slides, n_cells))
    order = _stream(seed, "order").permutation(len(obs))  # the order of rows must not be informative
    adata = assemble(sp.vstack(counts, format="csr")[order], obs.iloc[order], _annotate_genes(genes), "cell")
    adata.obsm["spatial"] = np.concatenate(coords)[order]
    adata.uns["source"] = _source(tissue, seed, technology) | {
        "n_slides": n_slides,
        "n_cells_per_slide": n_cells,
        "n_genes": n_genes,
        "batch_strength": float(batch_strength),
    }
    return adata


def simulate_dissociated(
    tissue: Tissue,
    n_cells: int,
    n_genes: int,
    median_counts: float,
    missing_genes: float,
    random_state: int | np.random.Generator | None,
) -> ad.AnnData:
    """Simulate dissociated cells of `tissue`, as `ipar.datasets.layered_tissue_dissociated` returns them."""
    n_cells, n_genes = _check_size(n_cells, n_genes)
    if not 0 <= missing_genes <= 0.5:
        msg = f"missing_genes is a share of the genes and must lie in [0, 0.5], found {missing_genes}."
        raise ValueError(msg)
    technology = _technology(DROPLET, median_counts, 1.0)
    seed = as_seed(random_state)
    genes = draw_genes(_stream(seed, "genes"), tissue, n_genes)
    rng = _stream(seed, "dissociated")
    piece = _dissociate(rng, tissue, n_cells)
    counts = draw_counts(rng, piece, genes, tissue, technology)
    measured = np.sort(rng.permutation(n_genes)[round(missing_genes * n_genes) :])
    var = _annotate_genes(genes).iloc[measured]
    adata = assemble(counts[:, measured], _annotate(tissue, piece), var, "dissociated")
    adata.obsm["spatial_origin"] = piece.coords
    size = {"n_cells": n_cells, "n_genes": n_genes, "missing_genes": float(missing_genes)}
    adata.uns["source"] = _source(tissue, seed, technology) | size
    return adata


def _dissociate(rng: np.random.Generator, tissue: Tissue, n_cells: int) -> Piece:
    """Draw cells from the undistorted tissue, robust types more often than fragile ones."""
    piece = tissue.cut(rng, 4 * n_cells, False)
    weights: Floats = tissue.recovery[piece.cell_types]
    # without replacement, robust types are drawn first: permute the order
    rows = rng.choice(len(weights), size=n_cells, replace=False, p=weights / weights.sum())
    return piece.take(rng.permutation(rows))


def _annotate(tissue: Tissue, piece: Piece) -> pd.DataFrame:
    """Return the annotation of a piece with its cell types."""
    obs = piece.obs.reset_index(drop=True)
    obs.insert(0, "cell_type", as_categories(piece.cell_types, tissue.cell_types))
    return obs


def _annotate_genes(genes: Genes) -> pd.DataFrame:
    """Return the table of genes, with programmes in random order."""
    width = len(str(len(genes.base) - 1))
    names = [f"gene{i:0{width}d}" for i in range(len(genes.base))]
    return pd.DataFrame({"programme": pd.Categorical(genes.programme)}, index=names)


def assemble(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, prefix: str) -> ad.AnnData:
    """Build the AnnData. Cells are named after shuffling, so that names are not informative."""
    obs = obs.set_axis([f"{prefix}{i}" for i in range(len(obs))], axis=0)
    return ad.AnnData(log_normalise(counts), obs=obs, var=var, layers={"counts": counts})


def _source(tissue: Tissue, seed: int, technology: Technology) -> dict[str, str | bool | int | float]:
    return {
        "description": f"simulated {tissue.name}, no animal or patient",
        "simulated": True,
        "random_state": seed,
        "median_counts": technology.median_counts,
        "micrometres": 1.0,  # per unit of coordinates
    }


def _stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return a separate generator per purpose, so that a slide does not depend on the number of slides."""
    key = (("genes", "slides", "order", "dissociated").index(purpose), index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _check_size(n_cells: int, n_genes: int) -> tuple[int, int]:
    return _at_least("n_cells", n_cells, 50), _at_least("n_genes", n_genes, 50)


def _at_least(name: str, value: int, minimum: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        msg = f"{name} must be an integer of at least {minimum}, found {value!r} ({type(value).__name__})."
        raise TypeError(msg) from None
    if number < minimum:
        msg = f"{name} must be at least {minimum}, found {number}."
        raise ValueError(msg)
    return number


def _technology(default: Technology, median_counts: float, batch_strength: float) -> Technology:
    if not (np.isfinite(median_counts) and median_counts >= 100):
        msg = f"median_counts must be finite and at least 100, found {median_counts}. Data have 1,000 to 10,000."
        raise ValueError(msg)
    if not (np.isfinite(batch_strength) and batch_strength >= 0):
        msg = f"batch_strength must be finite and not negative, found {batch_strength}. 1 is realistic."
        raise ValueError(msg)
    shift, scale = default.shift_sd * batch_strength, default.scale_sd * batch_strength
    return replace(default, median_counts=float(median_counts), shift_sd=shift, scale_sd=scale)
