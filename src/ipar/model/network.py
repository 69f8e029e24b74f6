"""The layout network as a fitted stage: embeddings in, a layout after every recycle out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._cluster import pool
from ipar._options import Count, checked
from ipar._run import Run, sent
from ipar.graph.candidates import candidate_mask, cosine_candidates
from ipar.model.consensus import ConsensusPlan, start_consensus
from ipar.model.io import State, loaded_module, module_arrays
from ipar.model.outputs import Attention
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of
from ipar.nn.ipalite import IPALiteOutput


@dataclass(frozen=True)
class NetworkLayout:
    """A trained layout network and its edge gate.

    Attributes
    ----------
    net, gate
        Layout network and edge gate.
    n_neighbors
        Candidates per cell within a set.
    plan
        How sets larger than those of the training are laid out.
    """

    net: IPALiteNet
    gate: EdgeGate
    n_neighbors: int = 100
    plan: ConsensusPlan = field(default_factory=ConsensusPlan)

    @property
    def modules(self) -> list[torch.nn.Module]:
        """Its networks."""
        return [self.net, self.gate]

    @property
    def beta(self) -> float:
        """Weight of the gate on the attention logits: that of the training."""
        return self.net.config.beta

    def method(self, n_cells: int) -> str:
        """``"direct"`` up to the largest set of the training, ``"consensus"`` of subsets beyond."""
        return "direct" if n_cells <= self.plan.direct_max else "consensus"

    def with_rounds(self, n_rounds: int | None) -> NetworkLayout:
        """The same with so many consensus rounds; as it is, if None."""
        return self if n_rounds is None else replace(self, plan=self.plan.with_rounds(n_rounds))

    def apply(self, embedding: NDArray[np.float32], run: Run) -> Tensor:
        """Lay out one slide: the first guess and the layout after every recycle, gauge-fixed, ``(R + 1, n, 2)``."""
        return self.start(embedding, run)()

    def start(self, embedding: NDArray[np.float32], run: Run) -> Callable[[], Tensor]:
        """Start to lay out one slide; gives a function that waits for what :meth:`apply` gives."""
        h, n = np.ascontiguousarray(embedding, dtype=np.float32), len(embedding)
        if self.method(n) == "direct":
            return lambda: self.lay_out(torch.from_numpy(h)[None])[:, 0].cpu()

        def start(batches: list[Tensor], n_together: int = 8) -> Iterator[Tensor]:
            cells = [batch.numpy() for batch in batches]
            groups = [cells[i : i + n_together] for i in range(0, len(cells), n_together)]
            found = pool().map("consensus", _subset_layouts, groups, self, h, later=True)
            return (torch.from_numpy(layouts) for group in found for layouts in group)

        plan = self.plan.on(next(self.net.parameters()).device)
        return start_consensus(n, start, plan, random_state=run.seed, progress=run.progress)

    @torch.no_grad()
    def lay_out(self, h: Tensor) -> Tensor:
        """Layouts ``(R + 1, S, m, 2)`` of sets ``(S, m, d)``, on the network's device."""
        self.net.eval()
        h = sent(h, next(self.net.parameters()).device)
        graph = graph_of(cosine_candidates(h, self.n_neighbors))
        out: IPALiteOutput = self.net(h, graph, dense_gate(self.gate, h, graph))
        return out.layouts

    def state(self) -> State:
        """Settings and arrays."""
        config = {"net": self.net.config.to_dict(), "n_neighbors": self.n_neighbors, "plan": asdict(self.plan)}
        return config, module_arrays(self.net, "net") | module_arrays(self.gate, "gate")

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> NetworkLayout:
        """The stage of :meth:`state`."""
        shape = IPALiteConfig.from_dict(config["net"])
        net = loaded_module(lambda: IPALiteNet(shape), arrays, "net")
        gate = loaded_module(lambda: EdgeGate(shape.d_input, shape.gate_heads), arrays, "gate")
        return cls(net, gate, plan=ConsensusPlan(**config["plan"]), **checked(config, {"n_neighbors": Count}))


def _subset_layouts(
    batches: list[NDArray[np.int64]], network: NetworkLayout, h: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Layouts of subsets of the cells, batch by batch."""
    return [network.lay_out(torch.from_numpy(h[cells])).cpu().numpy() for cells in batches]


@torch.no_grad()
def attention_rows(network: NetworkLayout, h: NDArray[np.float32], query: NDArray[np.int64], run: Run) -> Attention:
    """Attention rows of chosen cells, in one pass over a set of the trained size that holds them.

    ``run`` gives the seed of the other cells of the set, where there are more than one pass takes.
    """
    cells = np.arange(len(h))
    if len(h) > network.plan.direct_max:
        others = np.setdiff1d(cells, query)
        cells = np.sort(np.r_[query, run.rng.choice(others, network.plan.subset_size - len(query), replace=False)])
    rows = torch.from_numpy(np.searchsorted(cells, query))
    network.net.eval()
    sets = torch.from_numpy(h[cells])[None].to(next(network.net.parameters()).device)
    candidates = candidate_mask(sets, network.n_neighbors)
    scores = dense_gate(network.gate, sets, candidates)
    out = network.net(sets, candidates, scores, return_attention=True)
    if out.attention is None:  # pragma: no cover - asked for above
        raise RuntimeError
    weights = out.attention[:, 0, :, rows].permute(2, 0, 1, 3)  # (R, H, q, m) → (q, R, H, m)
    return Attention(query, cells, weights.cpu().numpy(), candidates[0, rows].cpu().numpy())
