"""The layout network and its gate: recipe, losses of a step, and the fit on embedded slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._ranks import Part
from ipar._run import Run
from ipar.metrics._collapse import Collapse
from ipar.model.consensus import ConsensusPlan
from ipar.model.network import NetworkLayout
from ipar.nn.config import IPALiteConfig
from ipar.nn.gate import EdgeGate, dense_gate
from ipar.nn.ipalite import IPALiteNet
from ipar.training.epochs import EpochTrainer, EpochTraining, Trained, copy_weights
from ipar.training.folds import Folds
from ipar.training.gate import Ready, augment
from ipar.training.health import HealthChecks, candidate_recall, network_health
from ipar.training.held_out import Cells, StageFit, StageRecipe, train_held_out
from ipar.training.losses import LossWeights, layout_losses, taught_gate_loss
from ipar.training.minisets import Miniset, MinisetBatch, collate, sample_minisets
from ipar.training.validation import validate


@dataclass(frozen=True)
class IPALiteTraining(EpochTraining):
    """How an :class:`~ipar.nn.IPALiteNet` and its gate are trained.

    Attributes
    ----------
    ramp_epochs
        Epochs until the walk loss reaches its weight; epoch 0 is without it.
    patience
        Epochs without a better validation E_geo before stopping, counted from the full walk weight on.
    weights
        Weights of the losses.
    """

    max_epochs: int = 8
    lr: float = 1e-3
    ramp_epochs: int = 4
    patience: int = 1
    weights: LossWeights = field(default_factory=LossWeights)

    def going_on(self, n_epochs: int) -> Self:
        """Also with the full walk weight from the start."""
        return replace(super().going_on(n_epochs), ramp_epochs=0)


@dataclass(frozen=True)
class NetworkRecipe(StageRecipe):
    """How the layout network is fitted.

    Attributes
    ----------
    config
        Shape of the network; the width of the embedding is taken from the data.
    training
        Optimiser, loss weights, augmentation and early stopping.
    health
        What is checked after the training.
    """

    config: IPALiteConfig = field(default_factory=IPALiteConfig.v1)
    training: IPALiteTraining = field(default_factory=IPALiteTraining)
    health: HealthChecks = field(default_factory=HealthChecks)


class IPALiteTrainer(EpochTrainer[Miniset, Ready]):
    """Trains a layout network and its gate on minisets."""

    # of network_health; of figures per recycle, the last
    health = ("logit_std", "attention_entropy", "attention_recall", *Collapse._fields)
    columns = [
        *("epoch", "lr", "w_rw", "total", "walk", "stress", "repulsion", "entropy", "gate"),
        *("val_target", "val_gated", *(f"val_{name}" for name in health)),
    ]
    watched, shown = "val_gated", ("walk", "stress")

    def __init__(self, net: IPALiteNet, gate: EdgeGate, config: IPALiteTraining, run: Run | None = None) -> None:
        super().__init__(net, gate, config, run)
        self.net, self.config, self.supervision = net, config, net.config.gate_supervision

    def minisets(self, sets: Sequence[Miniset]) -> Sequence[Miniset]:
        """The sets themselves."""
        return sets

    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """Weight of the walk loss: none in epoch 0, then a ramp."""
        ramp = self.config.ramp_epochs
        return {"w_rw": self.config.weights.walk * (epoch / ramp if epoch < ramp else 1.0)}

    def prepare(self, sets: Sequence[Miniset], part: Part) -> Ready:
        """A padded, augmented batch."""
        return Ready.of(augment(collate(sets), self.config), part, self.device)

    def losses(self, ready: Ready, weights: dict[str, float]) -> dict[str, Tensor]:
        """Losses of one batch."""
        batch, graph = ready.batch, ready.graph
        scores = dense_gate(self.gate, batch.h, graph, self.dtype)
        terms = self.layout_terms(self.net(batch.h, graph, scores, mask=batch.mask).layouts, batch)
        terms = {name: ready.part.weight * value for name, value in terms.items()}
        terms["gate"] = taught_gate_loss(
            scores, graph, batch.log_reference, self.supervision, ready.part, mix=self.config.gate_mix
        )
        own = replace(self.config.weights, walk=weights["w_rw"])
        zero = scores.new_zeros(())
        terms["total"] = sum((getattr(own, name) * value for name, value in terms.items()), start=zero)
        return terms

    def layout_terms(self, layouts: Tensor, batch: MinisetBatch) -> dict[str, Tensor]:
        """Losses of the layouts after every recycle, ``(R + 1, B, n, 2)``, the first guess first: of the last alone."""
        return layout_losses(layouts[-1], batch).as_dict()

    def validate(self, sets: Sequence[Miniset]) -> dict[str, float]:
        """E_geo on target edges and on gated candidates, and the figures of the first set's attention and layout."""
        if not sets:
            return {}
        on_target, gated = validate(self.net, self.gate, sets)
        health = network_health(self.net, self.gate, sets[:1])
        figures = {f"val_{name}": float(np.ravel(health[name])[-1]) for name in self.health}
        return {"val_target": on_target, "val_gated": gated} | figures

    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether an epoch was trained with the full walk weight."""
        return epoch >= self.config.ramp_epochs

    def enough(self, epoch: int, best: int) -> bool:
        """Whether patience, which starts at the full walk weight, is over."""
        return epoch - max(best, self.config.ramp_epochs) >= self.config.patience


def fit_network(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: NetworkRecipe,
    run: Run,
) -> StageFit[NetworkLayout]:
    """Train without the held-out slide, which chooses the epoch, then go on with all slides.

    Takes cross-fitted embeddings ``(n_s, e)``, coordinates of the training slides.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the end of the first epoch; later on the best networks so far are kept.
    """
    shape, plan = replace(recipe.config, d_input=embeddings[0].shape[1]), recipe.plan
    h, x = ([torch.from_numpy(part) for part in parts] for parts in (embeddings, coords))
    largest = plan.size[1]
    subsets = ConsensusPlan(direct_max=largest, subset_size=5 * largest // 6, n_anchors=5 * largest // 24)

    def draw(cells: Sequence[Cells], n_sets: int, seed: int) -> list[Miniset]:
        own = [h[i][rows] for i, rows in cells], [x[i][rows] for i, rows in cells]
        return sample_minisets(*own, n_sets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed)

    def train(
        sets: Sequence[Miniset], held_out: Sequence[Miniset], start: NetworkLayout | None
    ) -> tuple[NetworkLayout, Trained]:
        with run.seeded():
            net, gate = IPALiteNet(shape).to(run.device), EdgeGate(shape.d_input, shape.gate_heads).to(run.device)
        training = recipe.training
        if start is not None:
            copy_weights(start.modules, (net, gate))
            training = training.going_on(recipe.refit_epochs)
        trained = IPALiteTrainer(net, gate, training, run).fit(sets, held_out)
        return NetworkLayout(net.cpu(), gate.cpu(), plan.n_neighbors, subsets), trained

    fit = train_held_out(folds, draw, train, recipe, run)
    sets = draw([(folds.held_out, slice(None))], recipe.health.n_sets, run.seed + 1)
    recall = candidate_recall(sets, (plan.n_neighbors, *recipe.health.candidate_counts))
    health = network_health(fit.held_out.net, fit.held_out.gate, sets)
    return replace(fit, checks={"health": health, "candidate_recall": recall})
