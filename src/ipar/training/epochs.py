"""The loop that trains a network and its gate: epochs, the best weights, ctrl-C, a bar."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ipar._descent import Descent, fast_dtype, release_memory
from ipar._ranks import Part
from ipar._run import Run
from ipar.nn.config import GateSupervision
from ipar.nn.gate import EdgeGate
from ipar.training.gate import GateTraining, pretrain_gate
from ipar.training.minisets import Miniset, batch_order

logger = logging.getLogger("ipar")

EXTREMES: dict[str, Callable[..., float]] = {
    "geo_scaled_absmax": max,
    "wmax_sat_frac": max,
    "log_det_min": min,
}

Set = TypeVar("Set", bound=Sized)
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class EpochTraining(GateTraining):
    """How a network and its gate are trained together.

    Attributes
    ----------
    max_epochs
        Passes over the training sets.
    batch_size
        Sets per step.
    lr_min
        End of the cosine schedule of the learning rate.
    """

    max_epochs: int = 12
    batch_size: int = 2
    lr_min: float = 1e-5

    def going_on(self, n_epochs: int) -> Self:
        """How a trained network is trained for some epochs more: no gate alone, from half the learning rate down."""
        return replace(self, gate_steps=0, max_epochs=n_epochs, lr=self.lr / 2)


@dataclass(frozen=True)
class Trained:
    """Outcome of a training run."""

    history: pd.DataFrame  # one row per epoch: learning rate, weights, mean losses, scores on the held-out slide
    best_epoch: int  # whose weights were kept; -1 if the first epoch was interrupted
    interrupted: bool  # by the user


@dataclass
class Best:
    """The weights to keep: those of the least validation loss, or of the last epoch where there is none."""

    modules: Sequence[nn.Module]
    epoch: int = -1
    value: float = math.inf
    states: list[dict[str, Tensor]] = field(default_factory=list)

    def offer(self, epoch: int, value: float, *, counts: bool) -> None:
        """Keep the present weights if they are better than those kept."""
        # an epoch that does not count is only a stand-in: it never beats one that does
        if not counts or math.isnan(value):
            value = math.inf
        if value < self.value or math.isinf(self.value):
            self.epoch, self.value = epoch, value
            self.states = [{k: v.clone() for k, v in module.state_dict().items()} for module in self.modules]

    def restore(self) -> None:
        """Put the weights kept back into their modules."""
        for module, state in zip(self.modules, self.states, strict=False):
            module.load_state_dict(state)


class EpochTrainer(ABC, Generic[Set, Batch]):
    """Trains a network and its gate in place; subclasses say what the losses of a batch are.

    ``run`` gives the seed of everything random, the processes that train together, and whether to show a bar with the losses.

    A batch is prepared on the host, with random numbers for all its sets; a rank sends its part to its device. From then on
    a step does not wait for the device: losses are read once an epoch.
    """

    columns: list[str]  # of the history
    watched: str  # the column whose least value tells the best epoch
    shown: tuple[str, ...]  # losses beside the bar
    supervision: GateSupervision = "T1"

    def __init__(self, net: nn.Module, gate: EdgeGate, config: EpochTraining, run: Run | None = None) -> None:
        self.modules, self.gate, self.recipe, self.run = (net, gate), gate, config, run or Run()
        self.device = next(net.parameters()).device
        self.dtype = fast_dtype(self.device, self.run.precision)
        self.params = [*net.parameters(), *gate.parameters()]

    @abstractmethod
    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """Weights that change from epoch to epoch, as the history shows them."""

    @abstractmethod
    def prepare(self, sets: Sequence[Set], part: Part) -> Batch:
        """What this process computes of one batch, on its device."""

    @abstractmethod
    def losses(self, batch: Batch, weights: dict[str, float]) -> dict[str, Tensor]:
        """Losses of one batch by name, their weighted ``"total"`` among them: the share of this process in each."""

    @abstractmethod
    def validate(self, sets: Sequence[Set]) -> dict[str, float]:
        """Scores on the held-out slide; NaN or nothing without any sets."""

    @abstractmethod
    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether an epoch may be the best."""

    @abstractmethod
    def minisets(self, sets: Sequence[Set]) -> Sequence[Miniset]:
        """What the gate is trained on before the first epoch."""

    def enough(self, epoch: int, best: int) -> bool:
        """Whether to stop before the end."""
        return False

    def kept(self) -> Sequence[nn.Module]:
        """Modules whose weights are kept and validated."""
        return self.modules

    def stepped(self) -> None:
        """What follows a step of the optimiser."""

    def fit(self, train: Sequence[Set], validation: Sequence[Set] = ()) -> Trained:
        """Train the gate alone, then the network and the gate.

        Of a held-out slide, ``validation`` sets choose the epoch; without any, the last one is kept. Ctrl-C ends the training
        early and keeps the best weights so far; with several processes it ends the fit.
        """
        n_epochs, rng = self.recipe.max_epochs, self.run.rng
        sizes, batch_size = [len(one) for one in train], self.recipe.batch_size
        n_batches = -(-len(sizes) // batch_size)
        best, rows, interrupted = Best(self.kept()), [], False
        descent = self.recipe.descent(self.params, self.run, n_steps=n_epochs * n_batches, lr_end=self.recipe.lr_min)
        bar = self.run.bar("fit", n_epochs * n_batches)
        with self.run.seeded(), bar:
            try:
                pretrain_gate(self.gate, self.minisets(train), self.recipe, rng, self.supervision, self.run)
                for epoch in range(n_epochs):
                    weights = self.weights_of(epoch, n_epochs)
                    row: dict[str, Any] = {"epoch": epoch, "lr": descent.lr, **weights}
                    batches = [[train[i] for i in batch] for batch in batch_order(sizes, batch_size, rng)]
                    means = self._epoch(batches, weights, descent, bar)
                    rows.append(row | means | self.run.ranks.same(self.validate(validation)))
                    best.offer(epoch, rows[-1].get(self.watched, math.nan), counts=self.counts(epoch, n_epochs))
                    if self.enough(epoch, best.epoch):
                        break
            except KeyboardInterrupt:
                if self.run.ranks.count > 1:  # others may be in another step
                    raise
                logger.warning("Training interrupted after %d epochs: the best weights so far are kept.", len(rows))
                interrupted = True
        best.restore()
        for module in self.modules:
            module.eval()
        return Trained(pd.DataFrame(rows, columns=self.columns), best.epoch, interrupted)

    def _epoch(
        self, batches: Sequence[Sequence[Set]], weights: dict[str, float], descent: Descent, bar: tqdm[Any]
    ) -> dict[str, float]:
        found: list[Tensor] = []
        names: list[str] = []
        for number, sets in enumerate(batches):
            if number % 16 == 0:  # fragments of freed blocks grow by tens of MB per batch
                release_memory()
            for module in self.modules:
                module.train()
            part = self.run.ranks.part(len(sets))
            batch = self.prepare(sets, part)
            with part.drawing():
                losses = self.losses(batch, weights)
            descent.step(losses["total"])
            self.stepped()
            names = list(losses)
            found.append(torch.stack([value.detach() for value in losses.values()]))
            bar.update()
        means = self._means(names, found)
        bar.set_postfix({name: f"{means[name]:.3f}" for name in self.shown}, refresh=False)
        return means

    def _means(self, names: Sequence[str], found: Sequence[Tensor]) -> dict[str, float]:
        """Means and extremes over the steps of an epoch, of what all ranks found in each."""
        totals: dict[str, float] = {}
        for step in zip(*self.run.ranks.gather(torch.stack([*found])).tolist(), strict=True):
            by_name = zip(names, zip(*step, strict=True), strict=True)
            values = {name: EXTREMES.get(name, sum)(shares) for name, shares in by_name}
            add_up(totals, values, len(found))
        return totals


def copy_weights(start: Sequence[nn.Module], modules: Sequence[nn.Module]) -> None:
    """Give modules the weights of others of the same shape."""
    for before, module in zip(start, modules, strict=True):
        module.load_state_dict(before.state_dict())


def add_up(totals: dict[str, float], values: dict[str, float], count: int) -> None:
    """Add to the means of losses, and to the extremes of signals, over ``count`` calls."""
    for name, value in values.items():
        if name in EXTREMES:
            totals[name] = EXTREMES[name](totals.get(name, value), value)
        else:
            totals[name] = totals.get(name, 0.0) + value / count
