"""The training loop of IPA-Lite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ipar.nn import EdgeGate, IPALiteNet, dense_gate
from ipar.training.epochs import EpochTrainer, Trained
from ipar.training.gate import augment, pretrain_gate, step
from ipar.training.losses import LossWeights, gate_loss, gate_reference, layout_losses
from ipar.training.minisets import Miniset, MinisetBatch, collate
from ipar.training.validation import validate

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


class IPALiteTrainer(EpochTrainer[Miniset]):
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

    columns, watched = HISTORY, "val_gated"

    def __init__(self, net: IPALiteNet, gate: EdgeGate, config: IPALiteTraining, *, random_state: int = 0) -> None:
        super().__init__(net, gate, config, random_state=random_state)
        self.net, self.config = net, config

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
        scheduled = self.config.max_epochs
        return self._run(train, validation, n_epochs or scheduled, scheduled, progress=progress)

    def prepare(self, train: Sequence[Miniset], rng: np.random.Generator) -> None:
        """Train the gate alone on its KL."""
        pretrain_gate(self.gate, train, self.config, rng, self.net.config.gate_supervision)

    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """Weight of the walk loss: none in epoch 0, then a ramp to the cap."""
        ramp = self.config.ramp_epochs
        return {"w_rw": self.config.weights.walk * (epoch / ramp if epoch < ramp else 1.0)}

    def train_step(
        self, sets: Sequence[Miniset], weights: dict[str, float], optimiser: torch.optim.Optimizer
    ) -> dict[str, float]:
        """One step on a padded, augmented batch."""
        batch = augment(collate(sets, self.device), self.config)
        terms = self._losses(batch, replace(self.config.weights, walk=weights["w_rw"]))
        step(terms["total"], optimiser, self.config.clip)
        return {name: value.item() for name, value in terms.items()}

    def validate(self, sets: Sequence[Miniset]) -> dict[str, float]:
        """E_geo on target edges and on gated candidates."""
        on_target, gated = validate(self.net, self.gate, sets) if sets else (math.nan, math.nan)
        return {"val_target": on_target, "val_gated": gated}

    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether an epoch was trained with the full walk weight."""
        return epoch >= self.config.ramp_epochs

    def enough(self, epoch: int, best: int) -> bool:
        """Whether patience, which starts at the cap, is over."""
        return epoch - max(best, self.config.ramp_epochs) >= self.config.patience

    def shown(self, losses: dict[str, float]) -> dict[str, str]:
        """Walk and stress."""
        return {name: f"{losses[name]:.3f}" for name in ("walk", "stress")}

    def layout_terms(self, layouts: Tensor, batch: MinisetBatch) -> dict[str, Tensor]:
        """Losses of the layouts after every recycle, ``(R + 1, B, n, 2)``, the first guess first: of the last alone."""
        losses = layout_losses(layouts[-1], batch)
        return {name: getattr(losses, name) for name in ("walk", "stress", "repulsion", "entropy")}

    def _losses(self, batch: MinisetBatch, weights: LossWeights) -> dict[str, Tensor]:
        scores = dense_gate(self.gate, batch.h, batch.candidates, self.dtype)
        layouts = self.net(batch.h, batch.candidates, scores, mask=batch.mask).layouts
        terms = self.layout_terms(layouts, batch)
        target = gate_reference(batch.log_reference, self.net.config.gate_supervision)
        terms["gate"] = gate_loss(scores, batch.candidates, target)
        terms["total"] = sum(
            (getattr(weights, name) * value for name, value in terms.items()), start=scores.new_zeros(())
        )
        return terms
