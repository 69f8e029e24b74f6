"""The fitted model: encoder, gate and layout network together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar.graph import cosine_candidates
from ipar.model._consensus import (
    ConsensusPlan,
    align_recycles,
    blend_layouts,
    consensus_layout,
    principal_layout,
)
from ipar.model._encoder import GeometryEncoder
from ipar.model._iga import IGA
from ipar.model._outputs import Layout
from ipar.model._sharpen import Sharpening, sharpen_layout
from ipar.model._uncertainty import UncertaintyHead, spread_of
from ipar.nn import EdgeGate, IPALiteNet, IPALiteOutput, dense_gate, graph_of

GLOBAL_WEIGHT = 0.5
FLOW_WEIGHT = 0.5
_FLOW_SAMPLES = 4  # in a mean with other layouts more bring nothing
MIN_CELLS = 4  # fewer points have no shape beyond a triangle


@dataclass(frozen=True)
class IPALite:
    """A fitted IPA-Lite model; made by :func:`ipar.tl.fit_ipalite`, read by :func:`ipar.load`.

    Attributes
    ----------
    encoder
        From expression to the embedding.
    net, gate
        Layout network and edge gate.
    beta
        Weight of the gate at prediction: that of the training, or one chosen on a left-out training slide.
    n_neighbors
        Candidates a cell.
    plan
        How sets larger than those trained on are laid out.
    global_weight
        Share that a second layout has in the result: the two first principal components, over the whole set, of what was
        taught distances across the tissue. The network sees neighbourhoods and is better near by: on left-out brain
        sections the mean of both is better than either in rank correlation, neighbours and Procrustes error.
        0 leaves the network alone, which has the lower E_geo. A fit sets it to 0.8, or chooses it on a left-out training
        slide, from a half on, where the network is the one that did not see that slide; to 0.5 beside a flow.
    sharpening
        How cells alike in expression are drawn together at last, chosen on a left-out slide; None leaves this out.
    uncertainty
        Expected error of every cell, from its embedding; None in models that have none.
    flow
        A generative model of poses on the same embedding, whose expected layout is a third one; None in models that were
        fitted without.
    flow_weight
        Share that it has in the result.
    record
        History, localisability and settings of the fit.
    """

    encoder: GeometryEncoder
    net: IPALiteNet
    gate: EdgeGate
    beta: float
    n_neighbors: int
    plan: ConsensusPlan = field(default_factory=ConsensusPlan)
    record: dict[str, Any] = field(default_factory=dict)
    global_weight: float = GLOBAL_WEIGHT
    sharpening: Sharpening | None = None
    uncertainty: UncertaintyHead | None = None
    flow: IGA | None = None
    flow_weight: float = FLOW_WEIGHT

    def __repr__(self) -> str:
        fitted = f"{len(self.encoder.genes)} genes, inputs={self.encoder.record.get('inputs')!r}"
        return f"IPALite({fitted}, n_neighbors={self.n_neighbors}, beta={self.beta:g})"

    def layout(
        self,
        h: NDArray[np.float32],
        *,
        far: NDArray[np.float32] | None = None,
        across: NDArray[np.float32] | None = None,
        components: NDArray[np.float32] | None = None,
        random_state: int = 0,
        n_rounds: int | None = None,
        global_weight: float | None = None,
        flow_weight: float | None = None,
        sharpen: bool = True,
        progress: bool = False,
    ) -> Layout:
        """Lay out one set of cells of any size.

        Parameters
        ----------
        h
            Embeddings, ``(n, d)``.
        far
            What tells distances across the tissue, see :meth:`GeometryEncoder.views`; the blocks of the embedding that were
            taught them, if None. Sharpening holds its distances.
        across
            What the overview is made of: the same and the sketch; ``far``, if None.
        components
            The slide's own, see :meth:`GeometryEncoder.own_components`; sharpening does without them, if None.
        random_state
            Seed of the consensus subsets; a direct layout has no randomness.
        n_rounds
            Consensus rounds; the model's plan, if None.
        global_weight
            Share of the embedding's own layout, between 0 and 1; the model's, if None.
        flow_weight
            Share of the layout that the flow expects in the result before it is sharpened, where the model has a flow; the
            model's, if None.
        sharpen
            Sharpen the last layout, where the model has a strength for it.
        progress
            Show a bar.

        Raises
        ------
        ValueError
            If there are fewer than four cells, or a weight is not a share.
        """
        weight = _share("global_weight", global_weight, self.global_weight)
        flow_share = _share("flow_weight", flow_weight, self.flow_weight if self.flow is not None else 0.0)
        n = len(h)
        if n < MIN_CELLS:
            msg = f"At least {MIN_CELLS} cells are needed for a layout, found {n}."
            raise ValueError(msg)
        # random draws go by the order of the embedding: that of the rows must not matter
        order = np.lexsort(h.T[:2])
        h = h[order]
        far, across, components = (None if x is None else x[order] for x in (far, across, components))
        embedding = torch.from_numpy(np.ascontiguousarray(h, dtype=np.float32))
        if n <= self.plan.direct_max:
            layouts, method = self._lay_out(embedding[None])[:, 0], "direct"
        else:
            plan = self.plan.with_rounds(self.plan.rounds_for(n) if n_rounds is None else n_rounds)
            layouts = consensus_layout(
                n, lambda cells: self._lay_out(embedding[cells]), plan, random_state=random_state, progress=progress
            )
            method = "consensus"
        far = self._far(h, far)
        if weight:
            across = far if across is None else across
            overview = principal_layout(torch.from_numpy(np.ascontiguousarray(across, dtype=np.float32)))
            layouts = blend_layouts(layouts, overview, weight)
        if flow_share:
            layouts = blend_layouts(
                layouts, torch.from_numpy(self.flow_mean(h, random_state, progress=progress)), flow_share
            )
        if sharpen and self.sharpening is not None:
            how, last = self.sharpening, layouts[-1].numpy()
            sharp = sharpen_layout(last, h, far, how, components=components, progress=progress)
            layouts = torch.cat([layouts[:-1], torch.from_numpy(sharp)[None]])
        recycles = np.empty(layouts.shape, dtype=np.float32)
        recycles[:, order] = align_recycles(layouts).numpy()
        return Layout(recycles, method)

    def flow_mean(
        self, h: NDArray[np.float32], random_state: int = 0, *, progress: bool = False
    ) -> NDArray[np.float32]:
        """The layout that the flow expects, gauge-fixed, ``(n, 2)``.

        The clean layout that the network gives in one step from noise. Trained by squared errors, it is from pure noise the
        mean over all layouts that go with the cells, which the mean of samples of many steps comes near only as they
        grow many. What noise is left in it is averaged over four draws.
        """
        if self.flow is None:
            msg = (
                "The model has no flow, it was fitted with flow=False: fit it with ipar.tl.fit_ipalite(adata, ...), or leave "
                "flow_weight out."
            )
            raise ValueError(msg)
        drawn = self.flow.sample(h, _FLOW_SAMPLES, n_steps=1, random_state=random_state, progress=progress)
        return drawn.point("mean")

    def expected_error(
        self,
        h: NDArray[np.float32],
        far: NDArray[np.float32] | None = None,
        *,
        random_state: int = 0,
        progress: bool = False,
    ) -> NDArray[np.float32] | None:
        """How far each cell of a layout may be expected from its true place.

        Parameters
        ----------
        h, far
            As in :meth:`layout`, of one set of cells; the sketch, which no left-out slide has, is not read.
        random_state, progress
            Seed of the flow's samples, whose spread is read where the model has a flow, and whether to show a bar.

        Returns
        -------
        NDArray or None
            Expected distance after alignment, in RMS radii of the tissue, ``(n,)``; None without an uncertainty head.
        """
        if self.uncertainty is None:
            return None
        read = self.flow if self.uncertainty.joint is not None else None
        spread = None if read is None else spread_of(read, h, random_state, progress=progress)
        return self.uncertainty.expected_error(h, self._far(h, far), spread)

    def _far(self, h: NDArray[np.float32], far: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return h[:, self.encoder.global_columns] if far is None else far

    @torch.no_grad()
    def _lay_out(self, h: Tensor) -> Tensor:
        """Layouts ``(R + 1, S, m, 2)`` of sets ``(S, m, d)``."""
        self.net.eval()
        h = h.to(next(self.net.parameters()).device)
        graph = graph_of(cosine_candidates(h, self.n_neighbors))
        out: IPALiteOutput = self.net(h, graph, dense_gate(self.gate, h, graph), beta=self.beta)
        return out.layouts.cpu()

    def save(self, path: str | Path) -> None:
        """Write the model to a directory: JSON for settings and genes, safetensors for weights.

        The directory is replaced as a whole or not at all.

        Parameters
        ----------
        path
            Directory; made where it is missing, replaced where it holds a model.

        Raises
        ------
        FileExistsError
            If the path exists and is not a model's directory.
        """
        from ipar.model._io import write_model

        write_model(self, Path(path))


def _share(name: str, given: float | None, own: float) -> float:
    weight = own if given is None else given
    if not 0 <= weight <= 1:
        msg = f"{name} must lie between 0 and 1, found {weight}."
        raise ValueError(msg)
    return weight
