"""An embedding that the user brings along, in place of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar._chunks import Matrix, as_rows
from ipar._options import AtLeastTwo, checked
from ipar.model.encoder import GeometryEncoder
from ipar.model.features import equalise_blocks
from ipar.model.genes import rep_names
from ipar.model.io import State
from ipar.model.outputs import Features
from ipar.model.slide_pcs import SlidePCs


@dataclass(frozen=True)
class GivenEncoder:
    """Takes a given embedding as it is, centred and scaled slide by slide.

    It has the interface of :class:`GeometryEncoder`, with the columns of the embedding in the place of genes.

    Attributes
    ----------
    use_rep
        Key of the embedding in ``obsm``.
    width
        Its number of columns.
    record
        How it was made.
    """

    use_rep: str
    width: int
    record: dict[str, Any] = field(default_factory=dict)
    n_blocks: int = 1

    @property
    def genes(self) -> pd.Index:
        """Names of the columns."""
        return rep_names(self.use_rep, self.width)

    @property
    def modules(self) -> list[torch.nn.Module]:
        """None: it has no networks."""
        return []

    @property
    def n_output(self) -> int:
        """Width of the embedding."""
        return self.width

    @property
    def global_columns(self) -> NDArray[np.intp]:
        """All columns."""
        return np.arange(self.width)

    def transform(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> NDArray[np.float32]:
        """The embedding of cells, as in :meth:`GeometryEncoder.transform`."""
        return self.features(matrix, genes, slides).embedding

    def features(
        self,
        matrix: Matrix,
        genes: pd.Index,
        slides: pd.Categorical,
        centres: NDArray[np.float32] | None = None,
    ) -> Features:
        """The embedding of cells, in the place of the global features too.

        Raises
        ------
        ValueError
            If the given embedding is of another name or width.
        """
        if not genes.equals(self.genes):
            msg = (
                f"The model was fitted on obsm[{self.use_rep!r}] of {self.width} columns, found {len(genes)} columns: "
                "embed the cells in the same way."
            )
            raise ValueError(msg)
        x, codes = (
            np.asarray(as_rows(matrix).whole().toarray(), dtype=np.float32),
            np.asarray(slides.codes, dtype=np.int64),
        )
        if centres is None:
            counts = np.maximum(np.bincount(codes, minlength=len(slides.categories)), 1)
            sums = [np.bincount(codes, column, minlength=len(counts)) / counts for column in x.T]
            centres = np.stack(sums, axis=1).astype(np.float32)
        embedding = equalise_blocks(x - centres[codes], codes, 1)
        return Features(embedding, embedding)

    def features_of_slide(self, matrix: Matrix, centre: NDArray[np.float32] | None = None) -> Features:
        """Features of one slide, centred on ``centre`` ``(width,)`` or on its mean."""
        label: pd.Categorical[Any] = pd.Categorical(np.full(matrix.shape[0], "slide"))
        return self.features(matrix, self.genes, label, None if centre is None else centre[None])

    def slide_pcs(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> NDArray[np.float32]:
        """Principal components that every slide has by itself, of the given embedding."""
        return SlidePCs().of(matrix, np.asarray(slides.codes, dtype=np.int64))

    def state(self) -> State:
        """Settings; it has no arrays."""
        return {"use_rep": self.use_rep, "width": self.width, "record": self.record}, {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GivenEncoder:
        """The object of :meth:`state`."""
        return cls(**checked(config, {"use_rep": str, "width": AtLeastTwo, "record": dict}))


Encoder = GeometryEncoder | GivenEncoder


class AnyEncoder:
    """Reads either encoder."""

    @staticmethod
    def from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Encoder:
        """The encoder whose ``state()`` this is."""
        kind = GivenEncoder if "use_rep" in config else GeometryEncoder
        return kind.from_state(config, arrays)
