"""The training loop of IPA-Lite."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ipar.nn import EdgeGate, IPALiteNet, dense_gate
from ipar.nn._config import GateSupervision
from ipar.training._losses import LossWeights, e_geo, gate_loss, gate_reference, layout_losses
from ipar.training._minisets import Miniset, MinisetBatch, batch_order, collate
from ipar.training._precision import fast_dtype, release_memory

logger = logging.getLogger("ipar")

_TRIM_EVERY = 4  # batches; fragments of freed blocks grow by tens of MB a batch

HISTORY = [
    *("epoch", "lr", "w_rw", "total", "walk", "stress", "repulsion", "entropy", "gate"),
    *("val_target", "val_gated"),
]


@dataclass(frozen=True)
class IPALiteTraining:
    """The training recipe.

    Attributes
    ----------
    max_epochs
        Passes over the minisets.
    batch_size
        Minisets a step: two cost a fifth less time than one by one, more cost steps.
    lr, lr_min, weight_decay, clip
        AdamW, its cosine end, and the gradient norm that is allowed.
    ramp_epochs
        Epochs until the walk loss reaches its cap ``weights.walk``; epoch 0 is without it.
    patience
        Epochs without a better validation E_geo before stopping, counted from the cap on.
    gate_steps
        Steps of pretraining of the gate alone: 500, more overfits.
    h_noise, h_dropout, edge_drop
        Augmentation: noise on the embedding, share of its entries dropped, share of candidate edges dropped. Network
        and gate see the same augmented embedding.
    weights
        Weights of the losses.
    """

    max_epochs: int = 12
    batch_size: int = 2
    lr: float = 5e-4
    lr_min: float = 1e-5
    weight_decay: float = 5e-4
    clip: float = 1.0
    ramp_epochs: int = 6
    patience: int = 4
    gate_steps: int = 500
    h_noise: float = 0.3
    h_dropout: float = 0.1
    edge_drop: float = 0.2
    weights: LossWeights = field(default_factory=LossWeights)


class GateRecipe(Protocol):
    """What training of the gate and augmentation read of a recipe."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def gate_steps(self) -> int: ...
    @property
    def h_noise(self) -> float: ...
    @property
    def h_dropout(self) -> float: ...
    @property
    def edge_drop(self) -> float: ...


def augment(batch: MinisetBatch, config: GateRecipe) -> MinisetBatch:
    """Noise and dropout on the embeddings, dropout of candidate edges."""
    h = batch.h + config.h_noise * torch.randn_like(batch.h)
    h = torch.nn.functional.dropout(h, config.h_dropout)
    kept = torch.rand(batch.candidates.shape, device=h.device) >= config.edge_drop
    return replace(batch, h=h, candidates=batch.candidates & kept)


@dataclass(frozen=True)
class Trained:
    """Outcome of a training run.

    Attributes
    ----------
    history
        One row an epoch: learning rate, weight of the walk loss, mean losses, validation energies.
    best_epoch
        Epoch whose weights were kept.
    interrupted
        Stopped by the user.
    """

    history: pd.DataFrame
    best_epoch: int
    interrupted: bool


@dataclass
class _Best:
    """The weights to keep: those of the best validation energy, or of the last epoch where there is none."""

    modules: Sequence[nn.Module]
    epoch: int = -1
    value: float = math.inf
    states: list[dict[str, Tensor]] = field(default_factory=list)

    def offer(self, epoch: int, value: float, *, counts: bool) -> None:
        # a warm-up epoch is only a stand-in: it never beats one trained with the full walk weight
        if not counts or math.isnan(value):
            value = math.inf
        if value < self.value or math.isinf(self.value):
            self.epoch, self.value = epoch, value
            self.states = [{k: v.clone() for k, v in module.state_dict().items()} for module in self.modules]

    def restore(self) -> None:
        for module, state in zip(self.modules, self.states, strict=False):
            module.load_state_dict(state)


class IPALiteTrainer:
    """Trains a layout network and its gate on minisets.

    Parameters
    ----------
    net, gate
        What is trained, in place.
    config
        The recipe.
    random_state
        Seed of augmentation, order and initial noise; the global random state is left as it was.
    """

    def __init__(self, net: IPALiteNet, gate: EdgeGate, config: IPALiteTraining, *, random_state: int = 0) -> None:
        self.net, self.gate, self.config, self.random_state = net, gate, config, random_state
        self.device = next(net.parameters()).device
        self.dtype = fast_dtype(self.device)
        self.params = [*net.parameters(), *gate.parameters()]

    def fit(
        self,
        train: Sequence[Miniset],
        validation: Sequence[Miniset] = (),
        *,
        n_epochs: int | None = None,
        progress: bool = False,
    ) -> Trained:
        """Pretrain the gate, then train both.

        Parameters
        ----------
        train
            Minisets to learn from.
        validation
            Minisets of a left-out slide, for early stopping; without any, all epochs are run and the last one is kept.
        n_epochs
            Stop after so many epochs of the schedule; all, if None.
        progress
            Show a bar with the losses.

        Returns
        -------
        Trained
            History and the epoch that was kept. Ctrl-C ends the training early and keeps the best so far.
        """
        config = self.config
        rng = np.random.default_rng(self.random_state)
        sizes = [len(s) for s in train]
        n_batches = -(-len(sizes) // config.batch_size)
        optimiser = torch.optim.AdamW(self.params, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, config.max_epochs * n_batches, eta_min=config.lr_min
        )
        best, rows, interrupted = _Best([self.net, self.gate]), [], False
        devices = [self.device] if self.device.type == "cuda" else []
        total = (n_epochs or config.max_epochs) * n_batches
        with torch.random.fork_rng(devices=devices), tqdm(total=total, desc="fit", disable=not progress) as bar:
            torch.manual_seed(self.random_state)
            try:
                self.pretrain_gate(train, sizes, rng)
                for epoch in range(n_epochs or config.max_epochs):
                    w_rw = self.walk_weight(epoch)
                    batches = batch_order(sizes, config.batch_size, rng)
                    row = {"epoch": epoch, "lr": schedule.get_last_lr()[0], "w_rw": w_rw}
                    row |= self._epoch(train, batches, w_rw, optimiser, schedule, bar)
                    scores = validate(self.net, self.gate, validation) if validation else (math.nan, math.nan)
                    rows.append(row | {"val_target": scores[0], "val_gated": scores[1]})
                    best.offer(epoch, scores[1], counts=epoch >= config.ramp_epochs)
                    if epoch - max(best.epoch, config.ramp_epochs) >= config.patience:
                        break
            except KeyboardInterrupt:
                logger.warning("Training interrupted after %d epochs: the best weights so far are kept.", len(rows))
                interrupted = True
        best.restore()
        self.net.eval()
        self.gate.eval()
        return Trained(pd.DataFrame(rows, columns=HISTORY), best.epoch, interrupted)

    def walk_weight(self, epoch: int) -> float:
        """Weight of the walk loss: none in epoch 0, then a ramp to the cap."""
        ramp = self.config.ramp_epochs
        return self.config.weights.walk * (epoch / ramp if epoch < ramp else 1.0)

    def pretrain_gate(self, train: Sequence[Miniset], sizes: Sequence[int], rng: np.random.Generator) -> None:
        """Train the gate alone on its KL, one miniset a step."""
        pretrain_gate(self.gate, train, self.config, rng, self.net.config.gate_supervision)

    def _epoch(
        self,
        train: Sequence[Miniset],
        batches: Sequence[Sequence[int]],
        w_rw: float,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        bar: tqdm[Any],
    ) -> dict[str, float]:
        self.net.train()
        self.gate.train()
        totals: dict[str, float] = {}
        weights = replace(self.config.weights, walk=w_rw)
        for number, indices in enumerate(batches):
            if number % _TRIM_EVERY == 0:
                release_memory()
            batch = augment(collate([train[i] for i in indices], self.device), self.config)
            terms = self._losses(batch, weights)
            self._step(terms["total"], optimiser)
            schedule.step()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.item() / len(batches)
            bar.update()
            bar.set_postfix(walk=f"{terms['walk'].item():.3f}", stress=f"{terms['stress'].item():.3f}", refresh=False)
        return totals

    def _losses(self, batch: MinisetBatch, weights: LossWeights) -> dict[str, Tensor]:
        scores = dense_gate(self.gate, batch.h, batch.candidates, self.dtype)
        layout = layout_losses(self.net(batch.h, batch.candidates, scores, mask=batch.mask).coords, batch)
        terms = {name: getattr(layout, name) for name in ("walk", "stress", "repulsion", "entropy")}
        terms["gate"] = self._gate_loss(scores, batch)
        terms["total"] = sum(
            (getattr(weights, name) * value for name, value in terms.items()), start=scores.new_zeros(())
        )
        return terms

    def _gate_loss(self, scores: Tensor, batch: MinisetBatch) -> Tensor:
        target = gate_reference(batch.log_reference, self.net.config.gate_supervision)
        return gate_loss(scores, batch.candidates, target)

    def _step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        step(loss, optimiser, self.config.clip)


def step(loss: Tensor, optimiser: torch.optim.Optimizer, clip: float) -> None:
    """One step of an optimiser with the norm of the gradient limited."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()


def pretrain_gate(
    gate: EdgeGate,
    train: Sequence[Miniset],
    config: GateRecipe,
    rng: np.random.Generator,
    supervision: GateSupervision = "T1",
) -> None:
    """Train a gate alone on its KL, one random miniset a step."""
    device = next(gate.parameters()).device
    dtype = fast_dtype(device)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    for index in rng.integers(len(train), size=config.gate_steps):
        batch = augment(collate([train[index]], device), config)
        scores = dense_gate(gate, batch.h, batch.candidates, dtype)
        target = gate_reference(batch.log_reference, supervision)
        step(gate_loss(scores, batch.candidates, target), optimiser, config.clip)


@torch.no_grad()
def validate(
    net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset], *, beta: float | None = None
) -> tuple[float, float]:
    """E_geo of held-out minisets: on target edges with gate scores zero, and on gated candidates."""
    net.eval()
    energies = []
    for batch in in_order(sets, next(net.parameters()).device):
        scores = dense_gate(gate, batch.h, batch.candidates)
        on_target = layout_energy(net, batch, batch.adjacency)
        energies.append([on_target, layout_energy(net, batch, batch.candidates, scores, beta=beta)])
    target, candidates = np.mean(energies, axis=0)
    return float(target), float(candidates)


@torch.no_grad()
def sweep_beta(
    net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset], betas: Sequence[float], *, progress: bool = False
) -> list[float]:
    """E_geo of held-out minisets on gated candidates for every weight β of the gate."""
    net.eval()
    energies = []
    batches = in_order(sets, next(net.parameters()).device)
    for batch in tqdm(batches, desc="beta", total=len(sets), unit="miniset", disable=not progress):
        scores = dense_gate(gate, batch.h, batch.candidates)
        energies.append([layout_energy(net, batch, batch.candidates, scores, beta=beta) for beta in betas])
    return [float(value) for value in np.mean(energies, axis=0)]


def layout_energy(
    net: IPALiteNet, batch: MinisetBatch, graph: Tensor, scores: Tensor | None = None, *, beta: float | None = None
) -> float:
    """E_geo of the layout that a network gives a batch on any graph ``(B, n, n)``; without scores the gate is off."""
    return e_geo(net(batch.h, graph, scores, mask=batch.mask, beta=beta).coords, batch).item()


def in_order(sets: Sequence[Miniset], device: torch.device) -> Iterator[MinisetBatch]:
    """One set at a time: without gradients nothing is gained by padding."""
    return (collate([one], device) for one in sets)
