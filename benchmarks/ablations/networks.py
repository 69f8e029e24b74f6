"""Layouts of a held-out section, by what the network attends to and by its losses; one embedding for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.ablations.blends import NO_FLOW
from benchmarks.ablations.fits import SHARPENING, Coords, Layouts, blended, read, slide_pcs_of
from benchmarks.ablations.gates import NarrowGate, RelationGate, ranks, with_relations
from benchmarks.tasks.tasks import Slides
from ipar.graph.candidates import cosine_candidates
from ipar.model.blend import global_map
from ipar.model.consensus import ConsensusPlan, consensus_layout
from ipar.model.sharpening import sharpen_layout
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of
from ipar.training import EncoderRecipe, Folds, NetworkRecipe, Run, fit_embedding
from ipar.training.epochs import Trained, copy_weights
from ipar.training.held_out import Cells, train_held_out
from ipar.training.minisets import Miniset, MinisetBatch, sample_minisets
from ipar.training.network import IPALiteTrainer
from ipar.training.taught import embed_slide

_N_LANDMARKS = 24
_SOFTNESS = 0.1  # of a contact's border, in RMS radii
Candidates = Callable[[Tensor, int, int], Tensor]
Networks = tuple[IPALiteNet, EdgeGate]


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

    def prepared(self, one: Miniset, width: int, recipe: NetworkRecipe) -> Miniset:
        """A miniset with the candidates and the columns of the trial."""
        near = self.candidates(one.h, width, recipe.plan.n_neighbors).short()
        return replace(one, h=self.seen(one.h, width, recipe.plan.size[1]), candidates=near)


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
    wide: Sequence[Tensor],
    coords: Sequence[NDArray[np.float32]],
    width: int,
    folds: Folds,
    recipe: NetworkRecipe,
    run: Run,
) -> Networks:
    """Network and gate, trained as :func:`ipar.training.network.fit_network` trains them, one thing changed."""
    shape, plan = replace(recipe.config, d_input=width), recipe.plan
    places = [torch.from_numpy(x) for x in coords]

    def draw(cells: Sequence[Cells], n_sets: int, seed: int) -> list[Miniset]:
        own = [wide[i][rows] for i, rows in cells], [places[i][rows] for i, rows in cells]
        options: dict[str, Any] = {"size": plan.size, "n_neighbors": plan.n_neighbors, "random_state": seed}
        return [trial.prepared(one, width, recipe) for one in sample_minisets(*own, n_sets, **options)]

    def train(sets: Sequence[Miniset], held_out: Sequence[Miniset], start: Networks | None) -> tuple[Networks, Trained]:
        with run.seeded():
            net = Narrow(shape)
            gate = (RelationGate if trial.relations else NarrowGate)(width)
        training = recipe.training
        if start is not None:
            copy_weights(start, (net, gate))
            training = training.going_on(recipe.refit_epochs)
        return (net, gate), trial.trainer(net, gate, training, run).fit(sets, held_out)

    return train_held_out(folds, draw, train, recipe, run).stage


@torch.no_grad()
def place(trial: Trial, networks: Networks, h: Tensor, width: int, k: int, seed: int) -> Coords:
    """Layout of one slide from many small ones, as :meth:`ipar.model.network.NetworkLayout.apply` makes it, ``(n, 2)``."""
    net, gate = networks
    net.eval()

    def lay_out(cells: Tensor) -> Tensor:
        sets = h[cells]
        graph, seen = graph_of(trial.candidates(sets, width, k)), trial.seen(sets, width, sets.shape[1])
        layouts: Tensor = net(seen, graph, dense_gate(gate, seen, graph)).layouts
        return layouts

    found: Coords = consensus_layout(len(h), lay_out, ConsensusPlan(), random_state=seed)[-1].numpy()
    return found


def layouts(
    slides: Slides, seed: int, embed: EncoderRecipe | None = None, recipe: NetworkRecipe | None = None
) -> Layouts:
    """The network by itself and finished, of every trial."""
    recipe, run, (known, query) = recipe or NetworkRecipe(), Run(seed), read(slides)
    folds = Folds.of(known.sizes, run)
    fit = fit_embedding(known, folds, embed or EncoderRecipe(), run)
    encoder, width = fit.encoder, fit.cross_fitted[0].shape[1]
    wide = [beside(h, slide_pcs_of(encoder, slide)) for h, slide in zip(fit.cross_fitted, known, strict=True)]
    features, own = embed_slide(encoder, query), slide_pcs_of(encoder, query)
    usual, share = global_map(features.global_features).numpy(), NO_FLOW.global_map
    for trial in TRIALS:
        networks = fit_trial(trial, wide, known.coords, width, folds, recipe, run)
        alone = place(trial, networks, beside(features.embedding, own), width, recipe.plan.n_neighbors, seed)
        yield f"network alone: {trial.name}", alone
        blend = blended(alone, usual, share)
        yield f"finished: {trial.name}", sharpen_layout(blend, features, SHARPENING, own, run)
