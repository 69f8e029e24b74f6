"""The fitted encoder: expression of any slide in, embedding out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from ipar.nn import SharedEncoder

Inputs = Literal["pca", "genes", "both"]

EMBEDDING_NORM = 9.4  # RMS row norm of an embedding; the augmentation noise of the layout network is set against it
MIN_OVERLAP = 0.5
_CHUNK = 4096  # cells made dense at a time


@dataclass(frozen=True)
class EncoderPart:
    """A trained network and which of its outputs the embedding takes.

    Attributes
    ----------
    source
        What the network reads: principal components or genes.
    net
        The network.
    terms
        The halves that are taken: the local term's, the global term's, or both.
    """

    source: Literal["pca", "genes"]
    net: SharedEncoder
    terms: tuple[Literal["local", "global"], ...]


def centre_by_slide(matrix: sparse.csr_matrix, slides: pd.Categorical) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Mean expression of every slide ``(n_slides, n_genes)`` and the slide index of every cell."""
    codes = np.asarray(slides.codes, dtype=np.int64)
    counts = np.bincount(codes, minlength=len(slides.categories))
    member = sparse.csr_matrix((1.0 / counts[codes], (codes, np.arange(len(codes)))), shape=(len(counts), len(codes)))
    return np.asarray((member @ matrix).todense(), dtype=np.float32), codes


@dataclass(frozen=True)
class GeometryEncoder:
    """Embeds expression so that distances say how far apart two cells lie in the tissue.

    Attributes
    ----------
    genes
        Genes that it knows, in the order of its inputs.
    loadings
        Principal axes of the training slides, ``(n_genes, n_pcs)``, scaled to components of unit variance overall.
    parts
        The trained networks.
    record
        How it was made: inputs, the leave-one-slide-out table of the choice, seeds.
    """

    genes: pd.Index
    loadings: NDArray[np.float32]
    parts: tuple[EncoderPart, ...]
    record: dict[str, Any]

    @property
    def n_blocks(self) -> int:
        """Parts of equal width that the embedding is made of: one a term and network."""
        return sum(len(part.terms) for part in self.parts)

    @property
    def n_output(self) -> int:
        """Width of the embedding."""
        return sum(len(part.terms) * part.net.n_output // 2 for part in self.parts)

    def match(self, matrix: sparse.csr_matrix, genes: pd.Index) -> tuple[sparse.csr_matrix, NDArray[np.bool_]]:
        """Bring a matrix into the encoder's gene order.

        Genes are matched by name. A missing one stands at its slide's mean, that is at zero once centred.

        Returns
        -------
        tuple
            The matrix, ``(n_cells, n_genes)``, with empty columns for missing genes, and which genes are present.

        Raises
        ------
        ValueError
            If fewer than half of the encoder's genes are present.
        """
        if genes.equals(self.genes):
            return matrix, np.ones(len(self.genes), dtype=bool)
        found = genes.get_indexer(self.genes)
        present = found >= 0
        n_missing = int((~present).sum())
        if present.mean() < MIN_OVERLAP:
            msg = (
                f"Only {int(present.sum())} of the model's {len(self.genes)} genes are in the data, at least half are "
                f"needed. Genes are matched by adata.var_names; the model has names such as {self.genes[0]!r}, the data "
                f"{next(iter(genes), None)!r}: bring them to one naming (symbols or Ensembl ids)."
            )
            raise ValueError(msg)
        if n_missing:
            warnings.warn(
                f"{n_missing} of the model's {len(self.genes)} genes are missing from the data; they are filled at the mean.",
                UserWarning,
                stacklevel=4,
            )
        rows = np.flatnonzero(present)
        selector = sparse.csr_matrix(
            (np.ones(len(rows), dtype=np.float32), (found[rows], rows)), shape=(len(genes), len(self.genes))
        )
        return sparse.csr_matrix(matrix @ selector), present

    def transform(self, matrix: sparse.csr_matrix, genes: pd.Index, slides: pd.Categorical) -> NDArray[np.float32]:
        """Embed cells.

        Parameters
        ----------
        matrix
            Log-normalised expression, ``(n_cells, n_genes)``.
        genes
            Names of its columns.
        slides
            Slide of every cell: genes are centred within each.

        Returns
        -------
        NDArray
            Embedding, float32, ``(n_cells, n_output)``. In each slide every block has the same RMS norm and a row an
            RMS norm of 9.4: slides that an encoder has not seen come out smaller, the more the fewer it has seen.
        """
        matrix, _ = self.match(matrix, genes)
        means, codes = centre_by_slide(matrix, slides)
        out = np.empty((matrix.shape[0], self.n_output), dtype=np.float32)
        for start in range(0, len(out), _CHUNK):
            rows = slice(start, start + _CHUNK)
            centred = matrix[rows].toarray() - means[codes[rows]]
            out[rows] = self._embed(centred)
        return equalise_blocks(out, codes, self.n_blocks)

    @torch.no_grad()
    def _embed(self, centred: NDArray[np.float32]) -> NDArray[np.float32]:
        blocks = []
        for part in self.parts:
            x = centred @ self.loadings if part.source == "pca" else centred
            device = next(part.net.parameters()).device
            h = part.net(torch.from_numpy(x).to(device)).cpu()
            half = h.shape[1] // 2
            blocks += [h[:, :half] if term == "local" else h[:, half:] for term in part.terms]
        joined: NDArray[np.float32] = torch.cat(blocks, dim=1).numpy()
        return joined


def equalise_blocks(h: NDArray[np.float32], codes: NDArray[np.int_], n_blocks: int) -> NDArray[np.float32]:
    """Scale every block of every slide to the same share of an RMS row norm of 9.4.

    Parameters
    ----------
    h
        Blocks side by side, ``(n, n_blocks · width)``.
    codes
        Slide index of every cell, ``(n,)``.
    n_blocks
        Number of blocks.
    """
    blocks = h.reshape(len(h), n_blocks, -1)
    share = EMBEDDING_NORM / n_blocks**0.5
    counts = np.maximum(np.bincount(codes), 1)
    square = np.stack([np.bincount(codes, np.square(blocks[:, b]).sum(1)) for b in range(n_blocks)], axis=1)
    rms = np.sqrt(square / counts[:, None]).astype(np.float32)
    scaled: NDArray[np.float32] = (blocks * (share / np.maximum(rms, 1e-6))[codes][:, :, None]).reshape(h.shape)
    return scaled.astype(np.float32)
