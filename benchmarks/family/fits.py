"""Fits of the members of the IPA-Lite family under one reduced recipe, and their scores."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.family.members import MEMBERS, Member
from benchmarks.tasks.embedded import Embedded, embedded
from benchmarks.tasks.records import Record, kept
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.training import Folds, MinisetPlan, NetworkRecipe, Optimisation, Run
from ipar.training.losses import LossWeights, e_geo
from ipar.training.measures import attention_recall, recall_chance
from ipar.training.minisets import Miniset, collate
from ipar.training.network import IPALiteTraining, fit_network
from ipar.training.optimise import optimise_sets
from ipar.training.validation import validate

TASKS = ["brain2", "embryo"]


@dataclass(frozen=True)
class Budget:
    """How much every member is trained and scored; far below the defaults of a fit, so that all can be.

    Attributes
    ----------
    n_minisets, size
        Training minisets and their sizes.
    training
        The recipe: steps of one miniset at four times the rate. On a held-out training slide of brain2 so short a run then
        reaches an E_geo of 0.9 on target edges, at the default rate 1.6.
    n_scored, n_oracle
        Minisets of the test slide, and of them for the oracle.
    oracle
        The oracle's recipe.
    max_cells
        Cells per slide.
    """

    n_minisets: int = 16
    size: tuple[int, int] = (96, 160)
    training: IPALiteTraining = IPALiteTraining(max_epochs=5, ramp_epochs=2, gate_steps=60, lr=2e-3, batch_size=1)
    n_scored: int = 16
    n_oracle: int = 3
    oracle: Optimisation = Optimisation()
    max_cells: int = 1500


def train(member: Member, slides: Embedded, seed: int, budget: Budget) -> tuple[IPALiteNet, EdgeGate, int]:
    """Fit one member on the training slides: networks and epochs. One training slide is held out for the choice."""
    training, config = budget.training, member.config()
    if not member.gated:
        training = replace(training, gate_steps=0, weights=replace(LossWeights(), gate=0.0))
        config = replace(config, beta=0.0)
    recipe = NetworkRecipe(
        plan=MinisetPlan(budget.n_minisets, budget.size, member.n_neighbors), config=config, training=training
    )
    run = Run(seed)
    fit = fit_network(slides.train, slides.coords, Folds.of([len(x) for x in slides.train], run), recipe, run)
    return fit.stage.net, fit.stage.gate, fit.best_epoch + 1


@torch.no_grad()
def recall(net: IPALiteNet, gate: EdgeGate, sets: list[Miniset]) -> tuple[list[float], float]:
    """AttnRecall@30 of every recycle, mean over heads and minisets, and what uniform attention would have."""
    found, chance = [], []
    for batch in (collate([one]) for one in sets):
        scores = dense_gate(gate, batch.h, batch.candidates)
        out = net(batch.h, batch.candidates, scores, return_attention=True)
        assert out.attention is not None
        graphs = batch.candidates[0], batch.adjacency[0]
        found.append(attention_recall(out.attention[:, 0], *graphs).mean(1).numpy())
        chance.append(recall_chance(*graphs).item())
    return np.mean(found, axis=0).tolist(), float(np.mean(chance))


def with_noise(slides: Embedded, seed: int) -> Embedded:
    """The same slides with Gaussian embeddings of the same spread: all that is left is the true graph."""
    rng = np.random.default_rng(seed)
    own, test = slides.train, slides.test
    noise = [(rng.normal(size=h.shape) * h.std()).astype(np.float32) for h in (*own, test)]
    return replace(slides, train=noise[:-1], test=noise[-1])


def measure_oracle(slides: Embedded, seed: int, budget: Budget) -> Record:
    """No network: the energy that the test minisets' own targets allow; it reads the truth, as its name says."""
    start = time.process_time()
    batch = collate(slides.scored(budget.n_oracle, budget.size, 1, seed))
    found = optimise_sets(batch, config=budget.oracle, run=Run(seed))
    energy = e_geo(found.coords, batch).item()
    return {
        "e_geo_gated": None,
        "e_geo_target": energy,
        "losses": {name: float(value) for name, value in found.history.iloc[-1].items()},
        "parameters": {"net": 0, "gate": 0},
        "seconds": round(time.process_time() - start, 2),
    }


def measure(member: Member, slides: Embedded, seed: int, budget: Budget) -> Record:
    """Train a member and score it on minisets of the test slide."""
    if not member.trained:
        return measure_oracle(slides, seed, budget)
    if member.embedding == "random":
        slides = with_noise(slides, seed)
    start = time.process_time()
    net, gate, epochs = train(member, slides, seed, budget)
    seconds = time.process_time() - start
    sets = slides.scored(budget.n_scored, budget.size, member.n_neighbors, seed)
    on_target, on_candidates = validate(net, gate, sets)
    by_recycle, chance = recall(net, gate, sets)
    count = {"net": _size(net), "gate": _size(gate) if member.gated else 0}
    return {
        "e_geo_gated": on_candidates,
        "e_geo_target": on_target,
        "recall30": by_recycle[-1],
        "recall30_by_recycle": by_recycle,
        "recall30_chance": chance,
        "parameters": count,
        "seconds": round(seconds, 2),
        "beta": net.config.beta,
        "epochs": epochs,
    }


def _size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def run_one(task: str, name: str, seed: int, options: argparse.Namespace) -> Record:
    """Measure one member on one task, or read what was measured."""

    def make() -> Record:
        budget = Budget()
        slides = embedded(task, seed, options.data, options.cache, max_cells=budget.max_cells)
        return measure(MEMBERS[name], slides, seed, budget)

    identity = {"task": task, "member": name, "seed": seed}
    return kept("family", identity, make, options.out, fresh=options.fresh)
