"""Layouts of sets of any size from a network trained on small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ipar._options import Checked, Count, Depth
from ipar.geometry import apply_similarity, gauge_fix, procrustes_transform

LayOut = Callable[[Tensor], Tensor]
"""Takes cell indices of equally large sets ``(S, m)``, gives their layouts ``(R + 1, S, m, 2)``."""
Start = Callable[[list[Tensor]], Iterator[Tensor]]
"""Starts the work on many such batches of sets; gives their layouts one by one."""


@dataclass(frozen=True)
class ConsensusPlan(Checked):
    """How a set larger than those trained on is laid out.

    Attributes
    ----------
    direct_max
        Largest set that is laid out at once: the largest trained on.
    subset_size
        Cells of a subset, not far from the largest set trained on.
    n_anchors
        Cells that all subsets of a round share. A quarter of a subset ties subsets together well and leaves most of the
        work to new cells.
    n_rounds
        Rounds, each with new anchors and new subsets. More change nothing in a finished layout.
    batch_size
        Subsets laid out at once: on a CPU more than one only leave the cache.
    accelerator_cells
        Cells laid out at once on an accelerator, which subsets of so many fill.
    """

    direct_max: Count = 384
    subset_size: Count = 320
    n_anchors: Count = 80
    n_rounds: Depth = 2
    batch_size: Count = 1
    accelerator_cells: Count = 2**15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.n_anchors < self.subset_size <= self.direct_max:
            msg = (
                "n_anchors must be less than subset_size, and this at most direct_max, found "
                f"{self.n_anchors}, {self.subset_size} and {self.direct_max}."
            )
            raise ValueError(msg)

    def on(self, device: torch.device) -> ConsensusPlan:
        """The same plan with batches for a device."""
        if device.type == "cpu":
            return self
        return replace(self, batch_size=max(self.batch_size, self.accelerator_cells // self.subset_size))

    def with_rounds(self, n_rounds: int) -> ConsensusPlan:
        """The same plan with so many rounds."""
        if n_rounds < 1:
            msg = f"n_rounds must be at least 1, found {n_rounds}."
            raise ValueError(msg)
        return replace(self, n_rounds=n_rounds)


def generalised_procrustes(layouts: Tensor, anchors: Tensor, n_iterations: int = 3) -> Tensor:
    """Align layouts ``(L, S, m, 2)`` to the mean of the points that all S share, ``(L, S, a, 2)``, for every L by itself.

    Passes settle in two or three.
    """
    reference = anchors[:, :1]
    for _ in range(n_iterations):
        transform = procrustes_transform(anchors, reference.expand_as(anchors))
        reference = gauge_fix(apply_similarity(anchors, transform).mean(1, keepdim=True))
    return apply_similarity(layouts, procrustes_transform(anchors, reference.expand_as(anchors)))


def round_subsets(n: int, plan: ConsensusPlan, rng: np.random.Generator) -> NDArray[np.int64]:
    """Subsets of one round, ``(S, m)``: the anchors first, then every other cell at least once."""
    order = rng.permutation(n)
    anchors, rest = order[: plan.n_anchors], order[plan.n_anchors :]
    fresh = plan.subset_size - plan.n_anchors
    n_subsets = -(-len(rest) // fresh)
    # the last subset is filled up from the first cells of the same shuffle, so that all are of the trained size
    filled = np.resize(rest, n_subsets * fresh).reshape(n_subsets, fresh)
    return np.concatenate([np.broadcast_to(anchors, (n_subsets, len(anchors))), filled], axis=1)


def consensus_layout(
    n: int, lay_out: LayOut, plan: ConsensusPlan, *, random_state: int = 0, progress: bool = False
) -> Tensor:
    """Average of many overlapping small layouts, aligned on the cells they share; linear in ``n``.

    Returns gauge-fixed layouts of every recycle, ``(R + 1, n, 2)``.
    """
    return start_consensus(
        n, lambda batches: map(lay_out, batches), plan, random_state=random_state, progress=progress
    )()


def start_consensus(
    n: int, start: Start, plan: ConsensusPlan, *, random_state: int = 0, progress: bool = False
) -> Callable[[], Tensor]:
    """Start the work of :func:`consensus_layout`; gives a function that waits for the layouts."""
    rng = np.random.default_rng(random_state)
    rounds = [torch.from_numpy(round_subsets(n, plan, rng)) for _ in range(plan.n_rounds)]
    layouts = start([batch for subsets in rounds for batch in torch.split(subsets, plan.batch_size)])
    return partial(_joined_rounds, n, rounds, layouts, plan, progress)


def _joined_rounds(
    n: int, rounds: list[Tensor], layouts: Iterator[Tensor], plan: ConsensusPlan, progress: bool
) -> Tensor:
    """One layout of the rounds, whose batches come one by one."""
    total: Tensor | None = None
    with tqdm(total=sum(map(len, rounds)), desc="consensus", unit="subset", disable=not progress) as bar:
        for subsets in rounds:
            # on the host, where sums over subsets are in one order, and results repeat
            layout = _join(_gathered(layouts, subsets, plan, bar), subsets, n, plan.n_anchors)
            if total is None:
                total = torch.zeros_like(layout)
            else:
                layout = apply_similarity(layout, procrustes_transform(layout, gauge_fix(total)))
            total += gauge_fix(layout)
    if total is None:
        msg = f"n_rounds must be at least 1, found {plan.n_rounds}."
        raise ValueError(msg)
    return gauge_fix(total)


def _gathered(layouts: Iterator[Tensor], subsets: Tensor, plan: ConsensusPlan, bar: tqdm[Any]) -> Tensor:
    """Layouts of the subsets of a round, ``(L, S, m, 2)``.

    They are written to one array: kept one by one, they would lie scattered among what the next ones need.
    """
    found: Tensor | None = None
    done = 0
    for batch in torch.split(subsets, plan.batch_size):
        own = next(layouts)
        if found is None:
            found = own.new_empty((len(own), *subsets.shape, 2), device="cpu")
        found[:, done : done + len(batch)] = own
        done += len(batch)
        bar.update(len(batch))
    assert found is not None  # a round has a subset
    return found


def _join(layouts: Tensor, subsets: Tensor, n: int, n_anchors: int) -> Tensor:
    """One layout of all cells, ``(L, n, 2)``, from aligned subsets; a cell of several subsets gets their mean."""
    aligned = generalised_procrustes(layouts, layouts[:, :, :n_anchors])
    flat = subsets.flatten()
    sums = layouts.new_zeros(len(layouts), n, 2).index_add_(1, flat, aligned.flatten(1, 2))
    counts = torch.bincount(flat, minlength=n).clamp_min(1)
    return sums / counts[None, :, None]
