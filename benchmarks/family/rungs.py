"""What every rung of the validation ladder measures."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.family import fits as family
from benchmarks.tasks.embedded import Embedded
from ipar.geometry import gauge_fix
from ipar.geometry.targets import log_walk, predicted_walk, walk_kl
from ipar.metrics import collapse, procrustes_align
from ipar.model.blend import global_map
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.training import Optimisation, Run
from ipar.training.losses import LossWeights, e_geo, layout_losses
from ipar.training.minisets import Miniset, MinisetBatch, collate, sample_minisets
from ipar.training.network import IPALiteTrainer
from ipar.training.optimise import optimise_sets

Figures = dict[str, float]
Layouts = dict[str, dict[str, list[list[float]]]]
"""True positions and found ones of one miniset, by what found them."""


def drawn(one: Miniset, x: torch.Tensor) -> dict[str, list[list[float]]]:
    """The true positions of a miniset, and a layout turned onto them."""
    truth = one.coords.double().numpy()
    found = procrustes_align(truth, gauge_fix(x[: len(one)]).double().numpy())
    return {"true": truth.round(3).tolist(), "found": found.round(3).tolist()}


@dataclass(frozen=True)
class Setting:
    """What rungs are measured on.

    Attributes
    ----------
    slides
        Embedded slides of the task.
    task, options
        For rungs that share files with the family.
    n_sets, n_overfit, n_oracle
        Minisets measured on, and steps of overfitting and of the oracle.
    n_warmup, n_ramp
        Steps of overfitting by the stress alone, and then until the walk has its weight.
    """

    slides: Embedded
    task: str
    options: argparse.Namespace
    n_sets: int = 8
    n_overfit: int = 3000
    n_oracle: int = 2000
    n_warmup: int = 300
    n_ramp: int = 500
    size: tuple[int, int] = (96, 160)

    def sets(self) -> list[Miniset]:
        """Minisets of the training slides."""
        h, x = ([torch.from_numpy(a) for a in arrays] for arrays in (self.slides.train, self.slides.coords))
        return sample_minisets(h, x, self.n_sets, size=self.size, random_state=0)

    def scored(self) -> list[Miniset]:
        """Minisets of the test slide, those of the family."""
        protocol = family.Protocol()
        return self.slides.scored(protocol.n_scored, protocol.recipe.plan.size, protocol.recipe.plan.n_neighbors, 0)


def operator_match(setting: Setting) -> tuple[Figures, Layouts]:
    """The walk of true coordinates against the definition written out in float64, and its KL once turned and scaled."""
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0))).Q
    difference, kl = [], []
    for one in setting.sets():
        batch = collate([one])
        walk = predicted_walk(one.coords, one.walk.adjacency, one.walk.sigma)
        difference.append(np.abs(walk.numpy() - walk_by_definition(one.coords.double().numpy())).max())
        moved = gauge_fix(700 * one.coords @ turn + 5000)[None]
        log_predicted = log_walk(moved, batch.adjacency, batch.sigma)
        kl.append(abs(walk_kl(batch.log_reference, log_predicted, batch.steps, batch.mask).item()))
    return {"largest difference of transition probabilities": float(max(difference)), "KL at the truth": max(kl)}, {}


def walk_by_definition(x: np.ndarray) -> np.ndarray:
    """One-step walk on the union of k-nearest-neighbour edges, from the formula."""
    n = len(x)
    k = min(max(20, int(0.15 * n)), n - 1)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    order = distance.argsort(axis=1)[:, :k]
    sigma = np.take_along_axis(distance, order[:, -1:], axis=1)[:, 0]
    linked = np.zeros((n, n), dtype=bool)
    np.put_along_axis(linked, order, True, axis=1)
    weight = np.where(linked | linked.T, np.exp(-(distance**2) / np.outer(sigma, sigma)), 0.0)
    weight = (weight + weight.T) / 2
    return weight / weight.sum(axis=1, keepdims=True)


def oracle(setting: Setting) -> tuple[Figures, Layouts]:
    """Adam on the coordinates themselves, from random positions."""
    sets = setting.sets()
    batch = collate(sets)
    found = optimise_sets(batch, config=Optimisation(n_steps=setting.n_oracle))
    last = found.history.iloc[-1]
    figures = {
        "energy with regularisers": float(last["total"]),
        "walk": float(last["walk"]),
        "stress": float(last["stress"]),
        **standing(found.coords, batch),
    }
    return figures, {"oracle": drawn(sets[0], found.coords[0])}


def overfit(setting: Setting) -> tuple[Figures, Layouts]:
    """V1 trained on one miniset on its target edges: with Gaussian embeddings, and with those of the encoder.

    Random embeddings can be learned by heart, real ones also say where a cell is: they should need fewer steps.
    """
    one = setting.sets()[0]
    noise = torch.randn(one.h.shape, generator=torch.Generator().manual_seed(0)) * one.h.std()
    named = {"random embeddings": replace(one, h=noise), "encoder's embeddings": one}
    found = {name: overfitted(chosen, setting) for name, chosen in named.items()}
    figures = {f"E_geo, {name}": energies[-1] for name, (energies, _) in found.items()}
    ramped = min(setting.n_warmup + setting.n_ramp, setting.n_overfit)
    figures |= {f"after the ramp, {name}": energies[ramped - 1] for name, (energies, _) in found.items()}
    for name, (energies, _) in found.items():
        below = [step for step, energy in enumerate(energies, start=1) if energy < 0.12]
        figures[f"steps to 0.12, {name}"] = float(below[0]) if below else float("nan")
    return figures, {f"overfitted, {name}": drawn(one, x) for name, (_, x) in found.items()}


def overfitted(one: Miniset, setting: Setting) -> tuple[list[float], torch.Tensor]:
    """E_geo after every step, and the last layout, of a miniset by a network that saw nothing else."""
    batch, weights, n_steps, energies = collate([one]), LossWeights(walk=1.0), setting.n_overfit, []
    with Run().seeded():
        net = IPALiteNet(IPALiteConfig.v1(d_input=one.h.shape[1], coord_noise=0.0))
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps, eta_min=1e-5)
        for step in range(n_steps):
            losses = layout_losses(net(batch.h, batch.adjacency).coords, batch)
            energies.append(losses.walk.item() + weights.stress * losses.stress.item())
            walk = weights.walk * min(max((step - setting.n_warmup) / setting.n_ramp, 0.0), 1.0)
            total = walk * losses.walk + weights.stress * losses.stress + weights.repulsion * losses.repulsion
            optimiser.zero_grad()
            (total + weights.entropy * losses.entropy).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        x = net.eval()(batch.h, batch.adjacency).coords
    return [*energies[1:], e_geo(x, batch).item()], x[0]


def random_embeddings(setting: Setting) -> tuple[Figures, Layouts]:
    """Many minisets with Gaussian embeddings, on target edges: layouts of the test slide must not collapse."""
    noisy = replace(setting, slides=family.with_noise(setting.slides, 0))
    sets = noisy.scored()
    layouts = on_true_graph(trained_on_target_edges(noisy), sets)
    found = [standing(x, collate([one])) for one, x in zip(sets, layouts, strict=True)]
    figures = {name: min(f[name] for f in found) for name in found[0]}
    return figures, {"random embeddings, unseen slide": drawn(sets[0], layouts[0][0])}


def target_edges(setting: Setting) -> tuple[Figures, Layouts]:
    """V1 trained and scored on target edges: what the network makes of the right graph on an unseen slide."""
    sets = setting.scored()
    layouts = on_true_graph(trained_on_target_edges(setting), sets)
    energies = [e_geo(x, collate([one])).item() for one, x in zip(sets, layouts, strict=True)]
    figures = {"E_geo on target edges": float(np.mean(energies)), **principal(setting)}
    return figures, {"target edges, unseen slide": drawn(sets[0], layouts[0][0])}


@torch.no_grad()
def on_true_graph(net: IPALiteNet, sets: list[Miniset]) -> list[torch.Tensor]:
    """Layouts ``(1, n, 2)`` of minisets on their target edges."""
    return [net(batch.h, batch.adjacency).coords for batch in (collate([one]) for one in sets)]


def trained_on_target_edges(setting: Setting) -> IPALiteNet:
    """V1 by the family's recipe, with the target graph in place of the candidates and no gate."""
    recipe, slides = family.Protocol().recipe, setting.slides
    h, x = ([torch.from_numpy(a) for a in arrays] for arrays in (slides.train, slides.coords))
    drawn = sample_minisets(h, x, recipe.plan.n_minisets, size=recipe.plan.size, random_state=0)
    sets = [on_target_edges(s) for s in drawn]
    training = replace(recipe.training, gate_steps=0, edge_drop=0.0, weights=replace(LossWeights(), gate=0.0))
    with Run().seeded():
        net, gate = IPALiteNet(IPALiteConfig.v1(d_input=h[0].shape[1], beta=0.0)), EdgeGate(h[0].shape[1])
    IPALiteTrainer(net, gate, training).fit(sets)
    return net


def on_target_edges(one: Miniset) -> Miniset:
    """The miniset with its true neighbours for candidates; short rows repeat their first."""
    rows = [row.nonzero()[:, 0] for row in one.walk.adjacency]
    longest = max(map(len, rows))
    padded = [torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows]
    return replace(one, candidates=torch.stack(padded).short())


def whole_method(setting: Setting) -> tuple[Figures, Layouts]:
    """V1 on candidates with its gate, beside the principal components of the same embedding."""
    found = family.run_one(setting.task, "v1", 0, setting.options)
    return compared(found["e_geo_gated"], setting), {}


def seeds(setting: Setting) -> tuple[Figures, Layouts]:
    """The same by several seeds: each with an encoder, networks and minisets of its own."""
    runs = [family.run_one(setting.task, "v1", seed, setting.options)["e_geo_gated"] for seed in setting.options.seeds]
    spread = float(np.std(runs, ddof=1)) if len(runs) > 1 else 0.0
    return {**compared(float(np.mean(runs)), setting), "sd over seeds ÷ mean": spread / float(np.mean(runs))}, {}


def compared(energy: float, setting: Setting) -> Figures:
    """E_geo, that of principal components, and their ratio."""
    control = principal(setting)["E_geo of principal components"]
    return {
        "E_geo, candidates and gate": energy,
        "E_geo of principal components": control,
        "ratio to principal components": energy / control,
    }


def principal(setting: Setting) -> Figures:
    """E_geo of the embedding's two first principal components on the test slide's minisets."""
    energies = [e_geo(global_map(one.h.numpy())[None], collate([one])).item() for one in setting.scored()]
    return {"E_geo of principal components": float(np.mean(energies))}


def standing(x: torch.Tensor, batch: MinisetBatch) -> Figures:
    """Line collapse, λ₂/λ₁ of the covariance, and point collapse, the median pairwise distance: smallest of the sets."""
    found = [collapse(layout[mask].double().numpy()) for layout, mask in zip(x, batch.mask, strict=True)]
    ratio, median = min(one.axis_ratio for one in found), min(one.median_distance for one in found)
    return {"smallest λ₂/λ₁": ratio, "smallest median distance": median}
