"""Changes of the layout network that were tried: what it attends to, what its gate reads and learns, where it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.ablations.gates import NarrowGate, RelationGate, ranks, with_relations
from benchmarks.ablations.starts import MAP_SCALE, MapNet, MapTrainer, TwoPassNet, TwoPassTrainer
from ipar.graph.candidates import cosine_candidates
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.training import IPALiteTraining, NetworkRecipe
from ipar.training.gate import Ready
from ipar.training.minisets import MinisetBatch
from ipar.training.network import IPALiteTrainer

_N_LANDMARKS = 24
_LEAST_MUTUAL = 20  # nearest candidates that stay, mutual or not
_N_HARD = 20  # worst candidates of a cell
_SOFTNESS = 0.1  # of a contact's border, in RMS radii

Candidates = Callable[[Tensor, int, int], Tensor]
Seen = Callable[[Tensor, int, int], Tensor]


def nearest(h: Tensor, width: int, k: int) -> Tensor:
    """Candidates by the embedding, the first ``width`` columns."""
    return cosine_candidates(h[..., :width], k)


def nearest_of_either(h: Tensor, width: int, k: int) -> Tensor:
    """Candidates by the embedding and by the slide's own components, taken in turn; the last two columns are the map."""
    turn = torch.minimum(2 * ranks(h[..., :width]), 2 * ranks(h[..., width:-2]) + 1)
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


def mutual(h: Tensor, width: int, k: int) -> Tensor:
    """Candidates that have each other among their nearest, and the few nearest of all; the nearest fills what is left."""
    near, n = nearest(h, width, k), h.shape[-2]
    one_way = torch.zeros(*near.shape[:-1], n, dtype=torch.bool).scatter_(-1, near, value=True)
    stays = (one_way & one_way.mT).gather(-1, near)
    stays[..., :_LEAST_MUTUAL] = True
    return torch.where(stays, near, near[..., :1])


def embedding(h: Tensor, width: int, room: int) -> Tensor:
    """What network and gate see: the embedding."""
    return h[..., :width].contiguous()


def related(h: Tensor, width: int, room: int) -> Tensor:
    """… with what relates the cells of a set beside it."""
    return with_relations(h[..., :-2], width, room)


def on_the_map(h: Tensor, width: int, room: int) -> Tensor:
    """… with the place on the global map beside it, so large that no noise moves it."""
    return torch.cat([h[..., :width], MAP_SCALE * h[..., -2:]], dim=-1)


class Narrow(IPALiteNet):
    """The network, which does not see what is beside the embedding."""

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


class HardNegatives(IPALiteTrainer):
    """A gate that also learns to score contacts above zero, and the worst other candidates of every cell below."""

    def losses(self, ready: Ready, weights: dict[str, float]) -> dict[str, Tensor]:
        """With the loss of contacts on top of the gate's divergence, of the same weight."""
        terms = super().losses(ready, weights)
        scores = dense_gate(self.gate, ready.batch.h, ready.graph, self.dtype)
        reference = ready.graph.of_pairs(ready.batch.log_reference)
        found = hard_negative_loss(scores, ready.graph.mask, reference > float("-inf"))
        gate, total = terms["gate"] + found, terms["total"] + self.config.weights.gate * found
        return terms | {"gate": gate, "total": total}


def hard_negative_loss(scores: Tensor, candidates: Tensor, true: Tensor) -> Tensor:
    """Cross-entropy of true candidates and of the twenty best-scored wrong ones per cell, each class by its mean."""
    contacts, others = candidates & true, candidates & ~true
    lowest = torch.finfo(scores.dtype).min / 2
    worst = scores.masked_fill(~others, lowest).topk(min(_N_HARD, scores.shape[-1]), dim=-1).values
    return functional.softplus(-scores)[contacts].mean() + functional.softplus(worst)[worst > lowest].mean()


@dataclass(frozen=True)
class Trial:
    """A change of the network.

    Attributes
    ----------
    name
        What it is called.
    candidates, seen
        What is attended to, and what network and gate read of a cell.
    net, gate, trainer
        Kinds of network, gate and training.
    changes
        Makes its recipe of the default.
    seed
        Added to the seed: how much a score differs where nothing was changed.
    """

    name: str
    candidates: Candidates = nearest
    seen: Seen = embedding
    net: type[IPALiteNet] = IPALiteNet
    gate: type[EdgeGate] = EdgeGate
    trainer: type[IPALiteTrainer] = IPALiteTrainer
    changes: Callable[[NetworkRecipe], NetworkRecipe] = replace
    seed: int = 0


def _member(recipe: NetworkRecipe, name: str) -> NetworkRecipe:
    return replace(recipe, config=IPALiteConfig.named(name, qk_norm="cosine"))


def _larger(recipe: NetworkRecipe) -> NetworkRecipe:
    plan = recipe.plan
    size = (plan.size[0], 4 * plan.size[1] // 3)
    return replace(recipe, plan=replace(plan, n_minisets=2 * plan.n_minisets, size=size))


def _longer(recipe: NetworkRecipe) -> NetworkRecipe:
    training = IPALiteTraining(max_epochs=12, lr=5e-4, ramp_epochs=6, patience=4)
    return replace(recipe, training=training, refit_epochs=6)


def _stressed(recipe: NetworkRecipe) -> NetworkRecipe:
    training = recipe.training
    return replace(recipe, training=replace(training, weights=replace(training.weights, stress=0.3)))


_ON_MAP: dict[str, Any] = {"seen": on_the_map, "net": MapNet, "gate": NarrowGate, "trainer": MapTrainer}

TRIALS = (
    Trial("as it is"),
    Trial("nothing but the seed", seed=1),
    Trial("nothing but the seed, again", seed=2),
    Trial("V2, cosine", changes=partial(_member, name="v2")),
    Trial("D7, cosine", changes=partial(_member, name="d7")),
    Trial("candidates by the embedding and by own components", nearest_of_either),
    Trial("24 landmarks among the candidates", with_landmarks),
    Trial("mutual candidates, and the 20 nearest", mutual),
    Trial("the gate also reads ranks, shared neighbours and densities", seen=related, net=Narrow, gate=RelationGate),
    Trial("the gate also learns contacts against hard negatives", trainer=HardNegatives),
    Trial("a second pass, whose gate reads the first layout's neighbourhoods", net=TwoPassNet, trainer=TwoPassTrainer),
    Trial("losses of every recycle", trainer=EveryRecycle),
    Trial("a contact loss", trainer=Contacts),
    Trial("three times the stress", changes=_stressed),
    Trial("twice as many sets, up to a third larger", changes=_larger),
    Trial('trained as by `quality="best"`', changes=_longer),
    Trial("from the global map", **_ON_MAP),
)

SEEDS = tuple(one.name for one in TRIALS if one.seed or one == TRIALS[0])
"""Trials that differ by nothing but the seed."""
MEANS = {
    "the mean of the three seeds": SEEDS,
    "the mean of the three seeds and the one from the global map": (*SEEDS, "from the global map"),
}
"""Means of layouts of several trials."""
