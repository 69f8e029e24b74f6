"""What every training run of a network and its gate goes through: epochs, the best weights, ctrl-C, a bar."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ipar._descent import fast_dtype, release_memory
from ipar.nn import EdgeGate
from ipar.training.gate import GateRecipe
from ipar.training.minisets import batch_order

logger = logging.getLogger("ipar")

_TRIM_EVERY = 4  # batches; fragments of freed blocks grow by tens of MB a batch
_WORSE = {"geo_scaled_absmax": max, "wmax_sat_frac": max, "log_det_min": min}

Set = TypeVar("Set", bound=Sized)


class Recipe(GateRecipe, Protocol):
    """What the epochs read of a recipe."""

    @property
    def max_epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def lr_min(self) -> float: ...


@dataclass(frozen=True)
class Trained:
    """Outcome of a training run.

    Attributes
    ----------
    history
        One row an epoch: learning rate, weights, mean losses, scores on the left-out slide.
    best_epoch
        Epoch whose weights were kept.
    interrupted
        Stopped by the user.
    """

    history: pd.DataFrame
    best_epoch: int
    interrupted: bool


@dataclass
class Best:
    """The weights to keep: those of the best validation energy, or of the last epoch where there is none."""

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


class EpochTrainer(ABC, Generic[Set]):
    """Trains a network and its gate in place; what one step and one validation are is left to those who inherit.

    Parameters
    ----------
    net, gate
        What is trained, in place.
    config
        The recipe.
    random_state
        Seed of all that is random; the global random state is left as it was.
    """

    columns: list[str]  # of the history
    watched: str  # the one whose least value tells the best epoch

    def __init__(self, net: nn.Module, gate: EdgeGate, config: Recipe, *, random_state: int = 0) -> None:
        self.modules, self.gate, self.recipe, self.random_state = (net, gate), gate, config, random_state
        self.device = next(net.parameters()).device
        self.dtype = fast_dtype(self.device)
        self.params = [*net.parameters(), *gate.parameters()]

    @abstractmethod
    def prepare(self, train: Sequence[Set], rng: np.random.Generator) -> None:
        """What comes before the first epoch."""

    @abstractmethod
    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """Weights that change from epoch to epoch, as the history shows them."""

    @abstractmethod
    def train_step(
        self, sets: Sequence[Set], weights: dict[str, float], optimiser: torch.optim.Optimizer
    ) -> dict[str, float]:
        """One step on one batch; losses by name."""

    @abstractmethod
    def validate(self, sets: Sequence[Set]) -> dict[str, float]:
        """Scores on the left-out slide; NaN of all that need one, without any sets."""

    @abstractmethod
    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether an epoch may be the best."""

    @abstractmethod
    def shown(self, losses: dict[str, float]) -> dict[str, str]:
        """What the bar shows."""

    def enough(self, epoch: int, best: int) -> bool:
        """Whether to stop before the end."""
        return False

    def kept(self) -> Sequence[nn.Module]:
        """Modules whose weights are kept and validated."""
        return self.modules

    def _run(
        self, train: Sequence[Set], validation: Sequence[Set], n_epochs: int, n_scheduled: int, *, progress: bool
    ) -> Trained:
        """``n_epochs`` epochs of a schedule of ``n_scheduled``."""
        recipe, rng = self.recipe, np.random.default_rng(self.random_state)
        sizes = [len(one) for one in train]
        n_batches = -(-len(sizes) // recipe.batch_size)
        optimiser = torch.optim.AdamW(self.params, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_scheduled * n_batches, eta_min=recipe.lr_min)
        best, rows, interrupted = Best(self.kept()), [], False
        devices = [self.device] if self.device.type == "cuda" else []
        bar = tqdm(total=n_epochs * n_batches, desc="fit", disable=not progress)
        with torch.random.fork_rng(devices=devices), bar:
            torch.manual_seed(self.random_state)
            try:
                self.prepare(train, rng)
                for epoch in range(n_epochs):
                    weights = self.weights_of(epoch, n_scheduled)
                    row: dict[str, Any] = {"epoch": epoch, "lr": schedule.get_last_lr()[0], **weights}
                    batches = [[train[i] for i in indices] for indices in batch_order(sizes, recipe.batch_size, rng)]
                    row |= self._epoch(batches, weights, optimiser, schedule, bar)
                    rows.append(row | self.validate(validation))
                    best.offer(epoch, rows[-1].get(self.watched, math.nan), counts=self.counts(epoch, n_scheduled))
                    if self.enough(epoch, best.epoch):
                        break
            except KeyboardInterrupt:
                logger.warning("Training interrupted after %d epochs: the best weights so far are kept.", len(rows))
                interrupted = True
        best.restore()
        for module in self.modules:
            module.eval()
        return Trained(pd.DataFrame(rows, columns=self.columns), best.epoch, interrupted)

    def _epoch(
        self,
        batches: Sequence[Sequence[Set]],
        weights: dict[str, float],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        bar: tqdm[Any],
    ) -> dict[str, float]:
        totals: dict[str, float] = {}
        for number, sets in enumerate(batches):
            if number % _TRIM_EVERY == 0:
                release_memory()
            for module in self.modules:
                module.train()
            losses = self.train_step(sets, weights, optimiser)
            schedule.step()
            add_up(totals, losses, len(batches))
            bar.update()
            bar.set_postfix(self.shown(losses), refresh=False)
        return totals


def add_up(totals: dict[str, float], values: dict[str, float], count: int) -> None:
    """Means of losses, extremes of signals, over ``count`` calls."""
    for name, value in values.items():
        if name in _WORSE:
            totals[name] = _WORSE[name](totals.get(name, value), value)
        else:
            totals[name] = totals.get(name, 0.0) + value / count
