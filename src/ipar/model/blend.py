"""Several layouts of one slide in one: the network's, the global map, and what the flow expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._options import Checked
from ipar.geometry import apply_similarity, gauge_fix, procrustes_transform
from ipar.model.io import State


@dataclass(frozen=True)
class Blend(Checked):
    """Shares of the layouts in the result.

    Attributes
    ----------
    global_map
        Share of the global map beside the network's layout. 0 leaves the network alone, which has the lower E_geo.
    flow
        Share of the flow's expected layout beside the blend of the other two.

    Raises
    ------
    ValueError
        If a share is not between 0 and 1.
    """

    global_map: float = 0.5
    flow: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, share in (("global_weight", self.global_map), ("flow_weight", self.flow)):
            if not 0 <= share <= 1:
                msg = f"{name} must lie between 0 and 1, found {share}."
                raise ValueError(msg)

    def state(self) -> State:
        """Settings; it has no arrays."""
        return asdict(self), {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Blend:
        """The object of :meth:`state`."""
        return cls(**config)

    def with_shares(self, global_map: float | None, flow: float | None) -> Blend:
        """The same with other shares; those that are None stay."""
        given = {"global_map": global_map, "flow": flow}
        return replace(self, **{name: share for name, share in given.items() if share is not None})

    def apply(
        self, network: Tensor, global_features: NDArray[np.float32], expected: NDArray[np.float32] | None
    ) -> Tensor:
        """One gauge-fixed layout, ``(n, 2)``.

        Parameters
        ----------
        network
            The network's layout, ``(n, 2)``.
        global_features
            Features that were taught distances across the tissue, ``(n, d)``.
        expected
            The flow's expected layout, ``(n, 2)``; not read where it has no share.
        """
        layout = network
        if self.global_map:
            layout = blend_layouts(layout, global_map(global_features), self.global_map)
        if self.flow and expected is not None:
            layout = blend_layouts(layout, torch.from_numpy(expected), self.flow)
        return layout


def global_map(global_features: NDArray[np.float32]) -> Tensor:
    """Layout by the first two principal components of the global features: classical MDS of their distances, ``(n, 2)``."""
    return gauge_fix(principal_components(global_features, 2))


def principal_components(features: NDArray[np.float32], n_components: int) -> Tensor:
    """The first principal components of features ``(n, d)``, ``(n, n_components)``; double precision of a part at a time."""
    x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    mean, parts = x.mean(0), torch.split(x, 65_536)
    covariance = sum(centred.T @ centred for centred in ((part - mean).double() for part in parts))
    _, vectors = torch.linalg.eigh(covariance)  # ascending
    axes = vectors[:, -n_components:].flip(1)
    return torch.cat([((part - mean).double() @ axes).to(x.dtype) for part in parts])


def blend_layouts(layout: Tensor, other: Tensor, share: float) -> Tensor:
    """Weighted mean of a layout ``(n, 2)`` and another one turned onto it, gauge-fixed."""
    fixed = gauge_fix(other)
    turned = gauge_fix(apply_similarity(fixed, procrustes_transform(fixed, layout)))
    return gauge_fix((1 - share) * gauge_fix(layout) + share * turned)


def aligned_to(layouts: Tensor, target: Tensor) -> Tensor:
    """Layouts ``(L, n, 2)`` turned onto another one ``(n, 2)`` and gauge-fixed, so that they can be drawn side by side."""
    onto = target.expand_as(layouts)
    return gauge_fix(apply_similarity(layouts, procrustes_transform(layouts, onto)))
