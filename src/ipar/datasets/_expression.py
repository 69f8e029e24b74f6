"""Counts of a simulated tissue: gene programmes, batch effects, and the sampling of molecules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ipar.datasets._sections import Floats, Piece, Tissue


@dataclass(frozen=True)
class Technology:
    """How counts are measured.

    Attributes
    ----------
    median_counts
        Molecules of the median cell before dropout.
    depth_sd
        Standard deviation of log depth between cells.
    dropout
        Mean count K at which half of the measurements are lost, P(lost) = K / (K + mean).
    shift_sd, scale_sd
        Standard deviations of the per-gene batch effects, see `batch_effect`.
    ambient
        Share of molecules that come from the average cell instead.
    """

    median_counts: float
    depth_sd: float
    dropout: float
    shift_sd: float
    scale_sd: float
    ambient: float


@dataclass(frozen=True)
class Genes:
    """Expression programmes of g genes, shared by all slides and technologies of a seed.

    Attributes
    ----------
    base
        (g,) baseline log level.
    by_type
        (t, g) log-fold change per cell type.
    by_space
        (f, g) log-fold change per spatial pattern.
    by_state
        (s, g) log-fold change per cell state that does not depend on position (activity, stress, cycle).
    size
        (g,) size parameter of the negative binomial, variance = mean + mean² / size.
    programme
        (g,) programme of each gene.
    """

    base: Floats
    by_type: Floats
    by_space: Floats
    by_state: Floats
    size: Floats
    programme: npt.NDArray[np.str_]


def draw_genes(rng: np.random.Generator, tissue: Tissue, n_genes: int) -> Genes:
    """Draw the programmes of `n_genes` genes: spatial ones, cell-type markers, and the rest."""
    shares = {name: share for name, (share, _, _) in tissue.programmes.items()} | {"cell type": tissue.marker_share}
    counts = {name: max(1, round(share * n_genes)) for name, share in shares.items()}
    counts["housekeeping"] = n_genes - sum(counts.values())
    programme = rng.permutation(np.repeat(list(counts), list(counts.values())))

    n_types, n_features = len(tissue.cell_types), max(columns.stop for _, columns, _ in tissue.programmes.values())
    by_type = rng.normal(0.0, 0.15, size=(n_types, n_genes))
    markers = np.flatnonzero(programme == "cell type")
    by_type[rng.permutation(np.arange(len(markers)) % n_types), markers] += rng.normal(2.0, 0.5, size=len(markers))
    by_space = np.zeros((n_features, n_genes))
    for name, (_, columns, amplitude) in tissue.programmes.items():
        members = np.flatnonzero(programme == name)
        patterns = np.arange(columns.start, columns.stop)
        # patterns have equal numbers of genes; one gene in four is inverted
        chosen = rng.permutation(np.resize(patterns, len(members)))
        sign = np.where(rng.random(len(members)) < 0.75, 1.0, -1.0)
        by_space[chosen, members] = sign * amplitude * rng.lognormal(-0.05, 0.3, size=len(members))
    spatial = np.isin(programme, list(tissue.programmes))
    return Genes(
        base=rng.normal(0.0, tissue.base_sd, size=n_genes),
        by_type=by_type,
        by_space=by_space,
        by_state=rng.normal(size=(tissue.n_states, n_genes))
        * np.where(spatial, tissue.spatial_state_sd, tissue.state_sd),
        size=rng.lognormal(np.log(tissue.negative_binomial_size), 0.4, size=n_genes),
        programme=programme,
    )


def batch_effect(rng: np.random.Generator, technology: Technology, n_genes: int) -> tuple[Floats, Floats]:
    """Draw shift and scale per gene, ((g,), (g,)): log level ↦ base + scale · (log level − base) + shift."""
    shift = rng.normal(0.0, technology.shift_sd, size=n_genes)
    scale = np.exp(rng.normal(0.0, technology.scale_sd, size=n_genes))
    return shift, scale


def draw_counts(
    rng: np.random.Generator, piece: Piece, genes: Genes, tissue: Tissue, technology: Technology, chunk: int = 4096
) -> sp.csr_matrix:
    """Draw counts (n, g) of the cells of a piece, as one batch of a technology, `chunk` cells at a time.

    mean = depth · ((1 − a) · softmax(batch(log level)) + a · average profile), count = NegativeBinomial(mean, size).
    Counts are lost with probability K / (K + mean), the Michaelis–Menten dropout of Andrews & Hemberg (M3Drop, 2019).
    """
    shift, scale = batch_effect(rng, technology, len(genes.base))
    batch_depth = technology.median_counts * np.exp(rng.normal(0.0, 0.1))
    blocks = []
    for rows in np.array_split(np.arange(len(piece.coords)), -(-len(piece.coords) // chunk)):
        types = piece.cell_types[rows]
        states = rng.normal(size=(len(rows), tissue.n_states))
        response = tissue.coupling[types, None] * (piece.features[rows] @ genes.by_space)
        response += genes.by_type[types] + states @ genes.by_state
        level = np.exp(genes.base + scale * response + shift)
        profile = level / level.sum(axis=1, keepdims=True)
        profile = (1 - technology.ambient) * profile + technology.ambient * profile.mean(axis=0)
        depth = batch_depth * tissue.size[types] * rng.lognormal(0.0, technology.depth_sd, size=len(rows))
        mean = depth[:, None] * profile
        counts = rng.poisson(rng.gamma(genes.size, mean / genes.size))
        counts[rng.random(counts.shape) * (technology.dropout + mean) < technology.dropout] = 0
        blocks.append(sp.csr_matrix(counts.astype(np.int32)))
    return sp.vstack(blocks, format="csr")


def log_normalise(counts: sp.csr_matrix, target_sum: float = 1e4) -> sp.csr_matrix:
    """Scale each cell to `target_sum` counts and take log(1 + x), float32."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scaled = sp.csr_matrix(sp.diags(target_sum / np.maximum(totals, 1)) @ counts)
    scaled.data = np.log1p(scaled.data)
    return sp.csr_matrix(scaled, dtype=np.float32)
