"""The fitted encoder: expression of any slide in, embedding out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar._chunks import Matrix, as_rows, row_slices
from ipar._cluster import pool
from ipar._options import Weight, check
from ipar.model.checks import check_width, checked_names, shaped
from ipar.model.features import (
    Averaging,
    Reading,
    equalise_blocks,
    whole_slides,
)
from ipar.model.genes import match_genes, order_genes
from ipar.model.io import Arrays, State, loaded_module, module_arrays
from ipar.model.outputs import Features
from ipar.model.parts import EncoderPart, PartShape, SetEncoderShape, gene_outputs, outputs
from ipar.model.slide_pcs import SlidePCs
from ipar.nn import SetEncoder

Inputs = Literal["pca", "genes", "both"]


@dataclass(frozen=True)
class GeometryEncoder:
    """Embeds expression so that distances say how far apart two cells lie in the tissue.

    The network on components reads a cell together with the average over the cells of its slide that are most like it:
    the counts of one spot are noisy, and what its neighbours in expression share tells where it lies. The network on
    genes reads the cell itself: two views give better neighbourhoods than twice the same.

    Attributes
    ----------
    genes
        Genes that it knows, in the order of its inputs.
    loadings
        Axes of the training slides, ``(n_genes, n_pcs)``, principal ones and beside them those of largest spatial covariance,
        the components of either kind scaled to unit variance overall.
    averaging
        Neighbours that a cell is read together with.
    gene_scale
        What centred genes are multiplied by, ``(n_genes,)``: the more, the better a gene tells places apart on the training
        slides, and to unit variance overall. ``loadings`` hold it already. 1 for all, if None.
    set_encoder
        Network that sees a slide as a whole; it adds to the global features, not to the embedding.
    set_encoder_weight
        Size of its output in the global features beside a block of the embedding; chosen on held-out slides: single cells,
        of which each by itself tells little, are better seen with all others of their slide.
    parts
        The trained networks.
    record
        How it was made: inputs, the leave-one-slide-out table of the choice, seeds.
    """

    genes: pd.Index
    loadings: NDArray[np.float32]
    parts: tuple[EncoderPart, ...]
    record: dict[str, Any]
    averaging: Averaging = Averaging()
    gene_scale: NDArray[np.float32] | None = None
    set_encoder: SetEncoder | None = None
    set_encoder_weight: float = 1.0

    @property
    def use_rep(self) -> None:
        """It reads expression, not an embedding."""
        return None

    @property
    def modules(self) -> list[torch.nn.Module]:
        """All its networks."""
        whole = [] if self.set_encoder is None else [self.set_encoder]
        return [*(part.net for part in self.parts), *whole]

    @property
    def n_blocks(self) -> int:
        """Parts of equal width that the embedding is made of: one a term and network."""
        return sum(len(part.terms) for part in self.parts)

    @property
    def n_output(self) -> int:
        """Width of the embedding."""
        return sum(len(part.terms) * part.net.n_output // 2 for part in self.parts)

    @property
    def global_columns(self) -> NDArray[np.intp]:
        """Columns of the embedding that were taught distances across the tissue; all, where none were."""
        terms = [term for part in self.parts for term in part.terms]
        columns = np.split(np.arange(self.n_output), self.n_blocks)
        kept = [block for block, term in zip(columns, terms, strict=True) if term == "global"]
        return np.concatenate(kept or columns)

    def slide_pcs(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> NDArray[np.float32]:
        """Principal components that every slide has by itself, of the genes that the encoder knows, as they count.

        Parameters
        ----------
        matrix, genes, slides
            As in :meth:`transform`.

        Returns
        -------
        NDArray
            The first 100 components, averaged over like cells, float32, ``(n_cells, 100)``; the last are zero in slides of few
            cells or genes.
        """
        matrix = order_genes(matrix, genes, self.genes)
        return SlidePCs().of(matrix, np.asarray(slides.codes, dtype=np.int64), self.gene_scale)

    def transform(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> NDArray[np.float32]:
        """Embed cells.

        Parameters
        ----------
        matrix
            Log-normalised expression, ``(n_cells, n_genes)``, in memory or in chunks of rows.
        genes
            Names of its columns.
        slides
            Slide of every cell: genes are centred within each.

        Returns
        -------
        NDArray
            Embedding, float32, ``(n_cells, n_output)``. In each slide every block has the same RMS norm and a row an
            RMS norm of 9.4: new slides would come out smaller, the more the fewer slides the encoder was trained on.
        """
        return self.features(matrix, genes, slides).embedding

    def features(
        self,
        matrix: Matrix,
        genes: pd.Index,
        slides: pd.Categorical,
        centres: NDArray[np.float32] | None = None,
    ) -> Features:
        """Embed cells, and give their global features.

        Parameters
        ----------
        matrix, genes, slides
            As in :meth:`transform`.
        centres
            What the genes of every slide are centred on, ``(n_slides, n_genes)``; the mean of the slide, if None.
        """
        matrix = as_rows(match_genes(matrix, genes, self.genes))
        how = self.loadings, self.averaging, self.gene_scale
        found = list(self._features(Reading.of(matrix, slides, *how, matrix.order, centres)))
        back = np.argsort(matrix.order)
        return Features(*(found.pop(0)[back] for _ in range(2)))  # one at a time: features fill the memory

    def features_of_slide(self, matrix: Matrix, centre: NDArray[np.float32] | None = None) -> Features:
        """Features of one slide, with genes in the encoder's order and centred on ``centre`` ``(n_genes,)``, or its mean."""
        label: pd.Categorical[Any] = pd.Categorical(np.full(matrix.shape[0], "slide"))
        return self.features(matrix, self.genes, label, None if centre is None else centre[None])

    def _features(self, read: Reading) -> Features:
        codes, across = read.codes, self.global_columns
        embedding, start = np.empty((len(codes), self.n_output), dtype=np.float32), 0
        for part in self.parts:
            width = len(part.terms) * part.net.n_output // 2
            embedding[:, start : start + width] = self._embed(part, read)
            start += width
        equalise_blocks(embedding, codes, self.n_blocks)
        n_global = len(across) * self.n_blocks // self.n_output
        blocks = [equalise_blocks(embedding[:, own], codes, 1) for own in np.split(across, n_global)]
        if self.set_encoder is not None:
            whole = equalise_blocks(whole_slides(self.set_encoder, read.components, codes), codes, 1)
            blocks.append(np.float32(self.set_encoder_weight) * whole)
        return Features(embedding, np.concatenate(blocks, axis=1))

    @torch.no_grad()
    def _embed(self, part: EncoderPart, read: Reading) -> NDArray[np.float32]:
        """The outputs of a network that the embedding takes."""
        out = np.empty((len(read.codes), part.net.n_output), dtype=np.float32)
        if part.source == "pca":
            parts = list(row_slices(len(out), 4096))
            batches = (read.components[rows] for rows in parts)
            for rows, found in zip(parts, pool().map("embed", outputs, batches, part.net), strict=True):
                out[rows] = found
        else:
            for own, found in read.matrix.each("embed", gene_outputs, part.net, read.centring, heavy=True):
                out[read.place[own]] = found
        half = part.net.n_output // 2
        return np.concatenate([out[:, :half] if term == "local" else out[:, half:] for term in part.terms], axis=1)

    def state(self) -> State:
        """Settings and arrays."""
        parts = [{"source": part.source, "terms": list(part.terms), **part.net.shape} for part in self.parts]
        config: dict[str, Any] = {
            "genes": self.genes.tolist(),
            "record": self.record,
            "averaging": asdict(self.averaging),
            "parts": parts,
        }
        arrays: Arrays = {"loadings": self.loadings}
        if self.gene_scale is not None:
            arrays["gene_scale"] = self.gene_scale
        for i, part in enumerate(self.parts):
            arrays |= module_arrays(part.net, f"part{i}")
        if self.set_encoder is not None:
            config |= {"set_encoder": self.set_encoder.shape, "set_encoder_weight": self.set_encoder_weight}
            arrays |= module_arrays(self.set_encoder, "set_encoder")
        return config, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GeometryEncoder:
        """The encoder of :meth:`state`."""
        averaging = Averaging(**config["averaging"])
        own = shaped(arrays, {"loadings": "g p", "gene_scale": "g?"})
        loadings, gene_scale = np.asarray(own["loadings"], dtype=np.float32), own.get("gene_scale")
        genes = checked_names("genes", config["genes"], len(loadings))
        widths = {"pca": loadings.shape[1] * (1 + averaging.n_hops), "genes": len(genes)}
        parts: list[EncoderPart] = []
        for i, part in enumerate(config["parts"]):
            shape = PartShape(**part)
            check_width(f"part{i}", shape.n_input, widths[shape.source])
            parts.append(EncoderPart(shape.source, loaded_module(shape.network, arrays, f"part{i}"), shape.terms))
        if len({part.net.n_output for part in parts}) != 1 or not any("global" in part.terms for part in parts):
            msg = "Parts must be of one width, and one of them global."
            raise ValueError(msg)
        whole: dict[str, Any] = {}
        if "set_encoder" in config:
            size = SetEncoderShape(**config["set_encoder"])
            check_width("set_encoder", size.n_input, widths["pca"])
            check("set_encoder_weight", config["set_encoder_weight"], Weight)
            whole["set_encoder"] = loaded_module(lambda: SetEncoder(**asdict(size)), arrays, "set_encoder")
            whole["set_encoder_weight"] = config["set_encoder_weight"]
        return cls(
            genes=pd.Index(genes),
            loadings=loadings,
            parts=tuple(parts),
            record=dict(config["record"]),
            averaging=averaging,
            gene_scale=None if gene_scale is None else np.asarray(gene_scale, dtype=np.float32),
            **whole,
        )
