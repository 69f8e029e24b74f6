"""The trained networks of an encoder, and their outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from ipar._options import Checked, Count, Depth
from ipar._passes import Numbers
from ipar.model.features import GeneCentring
from ipar.nn import SharedEncoder


@dataclass(frozen=True)
class EncoderPart:
    """A trained network and which of its outputs the embedding takes."""

    source: Literal["pca", "genes"]  # what the network reads
    net: SharedEncoder
    terms: tuple[Literal["local", "global"], ...]  # the halves that are taken


@dataclass(frozen=True)
class PartShape(Checked):
    """Settings of an :class:`EncoderPart`."""

    source: Literal["pca", "genes"]
    terms: tuple[Literal["local", "global"], ...]
    n_input: Count
    hidden: tuple[Count, ...]
    n_output: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "terms", tuple(self.terms))  # a list, from JSON
        if not self.terms or self.n_output % 2:
            msg = f"A part needs terms and an even n_output, found {self.terms} and {self.n_output}."
            raise ValueError(msg)

    def network(self) -> SharedEncoder:
        """A network of this shape."""
        return SharedEncoder(self.n_input, hidden=self.hidden, n_output=self.n_output)


@dataclass(frozen=True)
class SetEncoderShape(Checked):
    """Settings of a :class:`SetEncoder`."""

    n_input: Count
    width: Count
    n_layers: Depth
    n_heads: Count
    n_output: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.n_heads:
            msg = f"width must be a multiple of n_heads, found {self.width} and {self.n_heads}."
            raise ValueError(msg)


@torch.no_grad()
def outputs(batch: NDArray[np.float32], net: SharedEncoder, least_rows: int = 256) -> NDArray[np.float32]:
    """Outputs of a network for some cells.

    Products of few rows are rounded otherwise than those of many: batches are filled up to ``least_rows``, so that a cell has
    the same output in any batch.
    """
    x = batch
    if len(batch) < least_rows:
        x = np.zeros((least_rows, batch.shape[1]), dtype=np.float32)
        x[: len(batch)] = batch
    found: NDArray[np.float32] = net(torch.from_numpy(x).to(next(net.parameters()).device))[: len(batch)].cpu().numpy()
    return found


def gene_outputs(
    own: Numbers, chunk: sparse.csr_matrix, net: SharedEncoder, centring: GeneCentring
) -> NDArray[np.float32]:
    """The same for rows of an expression matrix."""
    return np.concatenate([outputs(x, net) for _, x in centring.batches(own, chunk)])
