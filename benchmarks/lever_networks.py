"""Layouts of a left-out section, by what the network attends to and by its losses; one embedding for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from ipar.training._fit_ipalite import MinisetPlan
from ipar.training._left_out import train_left_out
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import tasks
from ipar._expression import get_expression
from ipar.graph import cosine_candidates
from ipar.model import Sharpening
from ipar.model.consensus import ConsensusPlan, blend_layouts, consensus_layout
from ipar.model.sharpening import sharpen_layout
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet, dense_gate, graph_of
from ipar.training.epochs import Trained
from ipar.training.embedding import fit_embedding
from ipar.training.finish import RETRAINED_WEIGHT
from ipar.training.network_training import IPALiteTrainer, IPALiteTraining
from ipar.training.minisets import Miniset, MinisetBatch, sample_minisets
from lever_gates import NarrowGate, RelationGate, ranks, with_relations
from lever_layouts import Layouts, overview_of, slides_of

_N_VALIDATION = 12
_N_LANDMARKS = 24
_SOFTNESS = 0.1  # of a contact's border, in RMS radii
_OWN = 0.2  # share of own components among the sharpening's neighbours
Slide = tuple[Tensor, Tensor]  # embedding with the slide's own components beside it, and coordinates
Candidates = Callable[[Tensor, int, int], Tensor]


class Narrow(IPALiteNet):
    """The network, which does not see the components beside the embedding."""

    def forward(self, h: Tensor, *graph: Any, **options: Any) -> Any:
        """Lay out sets ``(B, n, d + p)``."""
        return super().forward(h[..., : self.config.d_input].contiguous(), *graph, **options)


class EveryRecycle(IPALiteTrainer):
    """Losses of the layout after every recycle, not of the last alone."""

    def layout_terms(self, layouts: Tensor, batch: MinisetBatch) -> dict[str, Tensor]:
        """Means over recycles."""
        found = [super(EveryRecycle, self).layout_terms(layouts[: i + 1], batch) for i in range(1, len(layouts))]
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}


class Contacts(IPALiteTrainer):
    """A loss that tells contacts from other pairs, as heavy as the stress."""

    def layout_terms(self, layouts: Tensor, batch: MinisetBatch) -> dict[str, Tensor]:
        """With the contact loss on top of the stress."""
        terms = super().layout_terms(layouts, batch)
        return terms | {"stress": terms["stress"] + contact_loss(layouts[-1], batch)}


def contact_loss(x: Tensor, batch: MinisetBatch) -> Tensor:
    """Cross-entropy of edges of the true walk and of all other pairs, each class by its mean, σ_i the border."""
    square = (x[:, :, None] - x[:, None]).square().sum(-1)
    logit = (batch.sigma[:, :, None] - square.clamp_min(1e-8).sqrt()) / _SOFTNESS
    apart = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    real = batch.mask[:, :, None] & batch.mask[:, None] & apart
    edges, others = batch.adjacency & real, ~batch.adjacency & real
    return functional.softplus(-logit)[edges].mean() + functional.softplus(logit)[others].mean()


def nearest(h: Tensor, width: int, k: int) -> Tensor:
    """Candidates by the embedding, the first ``width`` columns."""
    return cosine_candidates(h[..., :width], k)


def nearest_of_either(h: Tensor, width: int, k: int) -> Tensor:
    """Candidates by the embedding and by the slide's own components, taken in turn."""
    turn = torch.minimum(2 * ranks(h[..., :width]), 2 * ranks(h[..., width:]) + 1)
    turn.diagonal(dim1=-2, dim2=-1).fill_(torch.iinfo(turn.dtype).max)
    return turn.topk(min(k, h.shape[-2] - 1), dim=-1, largest=False).indices


def with_landmarks(h: Tensor, width: int, k: int) -> Tensor:
    """Two dozen cells of the set that all attend to, and the nearest in the embedding beside them."""
    n = h.shape[-2]
    unit = functional.normalize(h[..., :width], dim=-1)
    similarity = unit @ unit.mT
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_N_LANDMARKS]
    similarity[..., chosen] += 4.0  # above all cosines
    similarity.diagonal(dim1=-2, dim2=-1).fill_(-float("inf"))
    return similarity.topk(min(k, n - 1), dim=-1).indices


@dataclass(frozen=True)
class Trial:
    """A change of the network."""

    name: str
    candidates: Candidates = nearest
    relations: bool = False
    trainer: type[IPALiteTrainer] = IPALiteTrainer

    def seen(self, h: Tensor, width: int, room: int) -> Tensor:
        """What network and gate get of a set with own components beside its embedding, ``(..., n, d + p)``."""
        return with_relations(h, width, room) if self.relations else h


TRIALS = (
    Trial("as it is"),
    Trial("candidates by the embedding and by own components", nearest_of_either),
    Trial("its gate reads likeness, ranks, mutual and shared neighbours too", relations=True),
    Trial("both", nearest_of_either, relations=True),
    Trial("24 landmarks among the candidates", with_landmarks),
    Trial("losses of every recycle", trainer=EveryRecycle),
    Trial("a contact loss", trainer=Contacts),
)


def beside(h: NDArray[np.float32], own: NDArray[np.float32]) -> Tensor:
    """Embedding and own components of unit variance, which makes their rows about as long as its own, ``(n, d + p)``."""
    return torch.from_numpy(np.concatenate([h, own / max(float(own.std()), 1e-9)], axis=1).astype(np.float32))


def fit_trial(
    trial: Trial,
    slides: Sequence[Slide],
    width: int,
    seed: int,
    *,
    plan: MinisetPlan | None = None,
    training: IPALiteTraining | None = None,
) -> tuple[IPALiteNet, EdgeGate]:
    """Network and gate, trained as ``ipar.training.fit_networks`` trains them, one thing changed."""
    plan, training = plan or MinisetPlan(), training or IPALiteTraining()
    shape = replace(IPALiteConfig.v1(), d_input=width)

    def draw(given: Sequence[Slide], n_sets: int | None, random_state: int) -> list[Miniset]:
        h, x = zip(*given, strict=True)
        options: dict[str, Any] = {"size": plan.size, "n_neighbors": plan.n_neighbors, "random_state": random_state}
        sets = sample_minisets(h, x, n_sets or plan.n_minisets, **options)
        return [
            replace(
                s,
                h=trial.seen(s.h, width, plan.size[1]),
                candidates=trial.candidates(s.h, width, plan.n_neighbors).short(),
            )
            for s in sets
        ]

    def train(
        sets: Sequence[Miniset], held_out: Sequence[Miniset], n_epochs: int | None
    ) -> tuple[IPALiteNet, EdgeGate, Trained]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Narrow(shape)
            gate = (RelationGate if trial.relations else NarrowGate)(width)
        return net, gate, trial.trainer(net, gate, training, random_state=seed).fit(sets, held_out, n_epochs=n_epochs)

    fit = train_left_out(slides, draw, train, n_validation=_N_VALIDATION, refit=True, random_state=seed)
    return fit.net, fit.gate


@torch.no_grad()
def place(trial: Trial, net: IPALiteNet, gate: EdgeGate, h: Tensor, width: int, k: int, seed: int) -> Tensor:
    """Layout of one slide from many small ones, as :meth:`ipar.model.IPALite.layout` makes it, ``(n, 2)``."""
    net.eval()

    def lay_out(cells: Tensor) -> Tensor:
        sets = h[cells]
        graph, seen = graph_of(trial.candidates(sets, width, k)), trial.seen(sets, width, sets.shape[1])
        layouts: Tensor = net(seen, graph, dense_gate(gate, seen, graph)).layouts
        return layouts

    return consensus_layout(len(h), lay_out, ConsensusPlan(), random_state=seed)[-1]


def layouts_of_networks(slides: tasks.Slides, seed: int) -> Layouts:
    """The network by itself and finished, of every trial."""
    train, query = get_expression(slides.train), get_expression(slides.query)
    parts = slides_of(slides.train, train)
    fit = fit_embedding(parts, train.genes, random_state=seed)
    encoder, width, plan = fit.encoder, fit.cross_fitted[0].shape[1], MinisetPlan()

    def own(matrix: Any) -> NDArray[np.float32]:
        return encoder.own_components(matrix, train.genes, pd.Categorical(np.zeros(matrix.shape[0], dtype=np.int8)))

    known = [
        (beside(h, own(part.expression)), torch.from_numpy(part.coords))
        for h, part in zip(fit.cross_fitted, parts, strict=True)
    ]
    one: Any = pd.Categorical(np.zeros(query.matrix.shape[0], dtype=np.int8))
    h, far, across = encoder.views(query.matrix, query.genes, one)
    components = own(query.matrix)
    overview, how = torch.from_numpy(overview_of(across)), Sharpening(own=_OWN)
    for trial in TRIALS:
        net, gate = fit_trial(trial, known, width, seed)
        alone = place(trial, net, gate, beside(h, components), width, plan.n_neighbors, seed)
        yield f"network alone: {trial.name}", alone.numpy()
        blend = blend_layouts(alone[None], overview, RETRAINED_WEIGHT)[0].numpy()
        yield f"finished: {trial.name}", sharpen_layout(blend, h, far, how, components=components, random_state=seed)
