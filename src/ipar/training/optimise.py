"""Energy minimisation on the coordinates themselves: no network, only targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor

from ipar._descent import Descent
from ipar._options import Checked, Count, Positive
from ipar._run import Run
from ipar.geometry import gauge_fix
from ipar.nn import EdgeGate
from ipar.nn.gate import dense_gate
from ipar.training.losses import LossWeights, layout_losses
from ipar.training.minisets import Miniset, MinisetBatch, collate, make_miniset

Targets = Callable[[Tensor], MinisetBatch]
"""Takes indices of cells ``(m,)``, gives one set with its targets."""


@dataclass(frozen=True)
class Optimisation(Checked):
    """How coordinates are optimised.

    Attributes
    ----------
    n_steps
        Steps of Adam.
    lr, lr_min
        Learning rate in RMS radii, and the end of its cosine.
    subset_size
        Slides of more cells are optimised on a new random subset of so many at every step, the mean size that networks
        are trained on: targets of a whole slide would take memory with the square of its cells, and a walk's
        neighbourhood is a share of its set.
    weights
        Of the losses. The walk has that of the reported energy; the gate's is of no account.
    """

    n_steps: Count = 2000
    lr: Positive = 0.05
    lr_min: float = 1e-3
    subset_size: Count = 240
    weights: LossWeights = field(default_factory=lambda: LossWeights(walk=1.0))

    @classmethod
    def polish(cls) -> Optimisation:
        """For a layout that is nearly right: fewer and smaller steps."""
        return cls(n_steps=300, lr=0.01)


@dataclass(frozen=True)
class OptimisedLayout:
    """Coordinates of least energy."""

    coords: Tensor  # gauge-fixed, of the shape of the start
    history: pd.DataFrame  # one row per logged step: the losses and their weighted sum, means over the sets of the step


def optimise_sets(batch: MinisetBatch, config: Optimisation | None = None, run: Run | None = None) -> OptimisedLayout:
    """The oracle: layouts ``(B, n, 2)`` of least energy of minisets, from random starts."""
    run = run or Run()
    start = torch.randn(*batch.h.shape[:2], 2, generator=run.generator)
    start = gauge_fix(start.to(batch.h.device), batch.mask)

    def energy(x: Tensor) -> tuple[Tensor, MinisetBatch]:
        return gauge_fix(x, batch.mask), batch

    return _minimise(start, energy, config or Optimisation(), run)


def optimise_layout(
    start: Tensor, targets: Targets, config: Optimisation | None = None, run: Run | None = None
) -> OptimisedLayout:
    """Move the cells of one slide to where the energy of their targets is least; linear in cells.

    Starts at ``(n, 2)``; targets are from :func:`true_targets` or :func:`gate_targets`.
    """
    config, run, n = config or Optimisation(), run or Run(), len(start)
    rng = run.rng
    everything = torch.arange(n, device=start.device)
    whole = targets(everything) if n <= config.subset_size else None

    def energy(x: Tensor) -> tuple[Tensor, MinisetBatch]:
        if whole is not None:
            return gauge_fix(x)[None], whole
        cells = torch.from_numpy(rng.choice(n, config.subset_size, replace=False)).to(x.device)
        return gauge_fix(x[cells])[None], targets(cells)

    return _minimise(gauge_fix(start), energy, config, run)


def true_targets(coords: Tensor, *, random_state: int = 0) -> Targets:
    """Targets from true coordinates ``(n, 2)``: those that networks are trained on."""
    generator = torch.Generator().manual_seed(random_state)

    def targets(cells: Tensor) -> MinisetBatch:
        return collate([_as_set(coords[cells], coords[cells], generator)], coords.device)

    return targets


def gate_targets(h: Tensor, start: Tensor, gate: EdgeGate, *, n_neighbors: int = 100, random_state: int = 0) -> Targets:
    """Targets that need no true coordinate: walks from the candidate graph and the gate, distances from the start.

    The gate is taught that its softmax over a cell's candidates is the true walk of one step, so here it stands for
    it; of several outputs their mean walk is taken. Bandwidths, and the distances of the stress term, are those of the layout
    to be polished, ``(n, 2)``: they hold it together across the tissue, where the walk says nothing.
    """
    generator = torch.Generator().manual_seed(random_state)

    @torch.no_grad()
    def targets(cells: Tensor) -> MinisetBatch:
        one = _as_set(h[cells], start[cells], generator, n_neighbors)
        return gated(collate([one], h.device), gate)

    return targets


@torch.no_grad()
def gated(batch: MinisetBatch, gate: EdgeGate) -> MinisetBatch:
    """A batch whose walk is that of the gate on the candidates."""
    scores = dense_gate(gate, batch.h, batch.candidates)
    by_head = scores if scores.ndim == 4 else scores[:, None]
    lowest = torch.finfo(scores.dtype).min / 2
    walk = by_head.masked_fill(~batch.candidates[:, None], lowest).softmax(-1).mean(1)
    log_reference = walk.clamp_min(torch.finfo(walk.dtype).tiny).log().masked_fill(~batch.candidates, float("-inf"))
    return replace(batch, adjacency=batch.candidates, log_reference=log_reference)


def _as_set(h: Tensor, coords: Tensor, generator: torch.Generator, n_neighbors: int = 1) -> Miniset:
    # targets are made on the CPU, where the generator of ring edges lives
    return make_miniset(h.cpu(), coords.cpu(), n_neighbors, generator)


def _minimise(
    start: Tensor, energy: Callable[[Tensor], tuple[Tensor, MinisetBatch]], config: Optimisation, run: Run
) -> OptimisedLayout:
    """Adam on the coordinates; ``energy`` gives gauge-fixed sets of them and the targets of a step."""
    x = start.clone().requires_grad_()
    every, rows = max(config.n_steps // 100, 1), []

    def loss(step: int) -> Tensor:
        parts = layout_losses(*energy(x)).as_dict()
        total = torch.stack([getattr(config.weights, name) * value for name, value in parts.items()]).sum()
        if step % every == 0 or step == config.n_steps - 1:
            rows.append({"step": step, "total": total.item()} | {k: v.item() for k, v in parts.items()})
        return total

    with run.seeded():
        descent = Descent([x], lr=config.lr, n_steps=config.n_steps, lr_end=config.lr_min)
        descent.minimise(loss, "optimise" if run.progress else None)
    mask = energy(x)[1].mask if x.ndim == 3 else None
    return OptimisedLayout(gauge_fix(x.detach(), mask), pd.DataFrame(rows))
