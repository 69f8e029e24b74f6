"""Fits of the members of the IPA-Lite family by the default recipe, and their scores."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from benchmarks.family.members import MEMBERS, Member
from benchmarks.tasks.embedded import Embedded, embedded
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
from ipar.metrics import luna_spearman
from ipar.model.network import NetworkLayout
from ipar.nn.gate import dense_gate
from ipar.training import Folds, NetworkRecipe, Optimisation, Run
from ipar.training.diagnostics import ProbeSet, diagnose
from ipar.training.health import network_health
from ipar.training.held_out import StageFit
from ipar.training.losses import e_geo
from ipar.training.measures import edge_ranks
from ipar.training.minisets import Miniset, collate
from ipar.training.network import fit_network
from ipar.training.optimise import optimise_sets
from ipar.training.validation import validate

TASKS = ["brain2", "brain7", "liver", "embryo"]


@dataclass(frozen=True)
class Protocol:
    """How every member is trained and scored.

    Attributes
    ----------
    recipe
        The recipe that members are switched in: what ``fit_ipalite`` trains by default.
    n_scored, n_oracle
        Minisets of the test slide, and of them for the oracle.
    n_probed
        Of them, those on which a geometry term is looked at.
    oracle
        The oracle's recipe.
    """

    recipe: NetworkRecipe = field(default_factory=NetworkRecipe)
    n_scored: int = 16
    n_oracle: int = 3
    n_probed: int = 4
    oracle: Optimisation = Optimisation()


def recipe_of(member: Member, base: NetworkRecipe) -> NetworkRecipe:
    """The recipe of a member."""
    training, config = base.training, member.config()
    if not member.gated:
        training = replace(training, gate_steps=0, weights=replace(training.weights, gate=0.0))
        config = replace(config, beta=0.0)
    return replace(base, plan=replace(base.plan, n_neighbors=member.n_neighbors), config=config, training=training)


def train(recipe: NetworkRecipe, slides: Embedded, seed: int) -> StageFit[NetworkLayout]:
    """Fit a recipe on the training slides, one of which is held out for the choice of the epoch."""
    run = Run(seed)
    return fit_network(slides.train, slides.coords, Folds.of([len(x) for x in slides.train], run), recipe, run)


def with_noise(slides: Embedded, seed: int) -> Embedded:
    """The same slides with Gaussian embeddings of the same spread: all that is left is the true graph."""
    rng = np.random.default_rng(seed)
    own, test = slides.train, slides.test
    noise = [(rng.normal(size=h.shape) * h.std()).astype(np.float32) for h in (*own, test)]
    return replace(slides, train=noise[:-1], test=noise[-1])


def measure_oracle(slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """No network: the energy that the test minisets' own targets allow; it reads the truth, as its name says."""
    start = time.process_time()
    batch = collate(slides.scored(protocol.n_oracle, protocol.recipe.plan.size, 1, seed))
    found = optimise_sets(batch, config=protocol.oracle, run=Run(seed))
    return {
        "e_geo_gated": None,
        "e_geo_target": e_geo(found.coords, batch).item(),
        "losses": {name: float(value) for name, value in found.history.iloc[-1].items()},
        "parameters": {"net": 0, "gate": 0},
        "seconds": round(time.process_time() - start, 2),
    }


def measure(member: Member, slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Train a member and score it on the test slide."""
    if not member.trained:
        return measure_oracle(slides, seed, protocol)
    if member.embedding == "random":
        slides = with_noise(slides, seed)
    record = measure_recipe(recipe_of(member, protocol.recipe), slides, seed, protocol)
    if not member.gated:
        record["parameters"]["gate"] = 0
    return record


def measure_recipe(recipe: NetworkRecipe, slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Train a recipe and score it."""
    start = time.process_time()
    fit = train(recipe, slides, seed)
    seconds = round(time.process_time() - start, 2)
    return scores(fit, recipe, slides, seed, protocol) | {"seconds": seconds}


def scores(
    fit: StageFit[NetworkLayout], recipe: NetworkRecipe, slides: Embedded, seed: int, protocol: Protocol
) -> Record:
    """Energies and attention on minisets of the test slide, and ranks of distances on all of it."""
    network, best = fit.stage, fit.history.iloc[fit.best_epoch]
    sets = slides.scored(protocol.n_scored, recipe.plan.size, recipe.plan.n_neighbors, seed)
    on_target, on_candidates = validate(network.net, network.gate, sets)
    health = {name: _plain(value) for name, value in network_health(network.net, network.gate, sets).items()}
    layout = network.apply(slides.test, Run(seed))[-1].numpy()
    return {
        "e_geo_gated": on_candidates,
        "e_geo_target": on_target,
        "luna_spearman": luna_spearman(slides.truth, layout),
        "recall30": health["attention_recall"][-1],
        "health": health,
        **(geometry(network, sets[: protocol.n_probed]) if recipe.config.geometry != "none" else {}),
        "parameters": {"net": _size(network.net), "gate": _size(network.gate)},
        "epochs": fit.best_epoch + 1,
        "held_out": {name: float(best[name]) for name in ("val_target", "val_gated")},
    }


@torch.no_grad()
def geometry(network: NetworkLayout, sets: Sequence[Miniset]) -> Record:
    """What the geometry term does, by recycle with the term: means over heads and sets.

    Its rank correlations over candidate edges with attention, and with the distance in the layout that it reads: above 0, it
    prefers distant cells; None where it is the same on all edges. Norms of the offsets of ``"point"``, in RMS radii.
    """
    found: dict[str, list[Any]] = {"rho_attention": [], "rho_distance": []}
    for one in sets:
        batch = collate([one])
        scores, mask = dense_gate(network.gate, batch.h, batch.candidates), batch.candidates[0]
        out = network.net(batch.h, batch.candidates, scores, return_attention=True, return_terms=True)
        assert out.attention is not None
        assert out.terms is not None
        rows = [r for r, terms in enumerate(out.terms) if "geometry" in terms]
        terms = [edge_ranks(out.terms[r]["geometry"][0], mask) for r in rows]
        others = {
            "rho_attention": [edge_ranks(out.attention[r, 0], mask) for r in rows],
            "rho_distance": [edge_ranks(torch.cdist(out.layouts[r], out.layouts[r]), mask) for r in rows],
        }
        for name, values in others.items():
            found[name].append([(a * b).sum(-1) for a, b in zip(terms, values, strict=True)])
    means = {name: _defined(np.array(values).swapaxes(0, 1)) for name, values in found.items()}
    probes = [ProbeSet(one.h, collate([one]).candidates[0]) for one in sets]
    measured = diagnose(network.net, network.gate, probes)
    offsets = measured[measured["measure"] == "offset_query"].groupby("recycle")["value"].mean()
    return means | ({"offsets": offsets.round(3).tolist()} if len(offsets) else {})


def _defined(values: NDArray[np.float64]) -> list[float | None]:
    """Mean of what is no NaN of every row ``(R, sets, heads)``; None where there is nothing."""
    rows = [row[np.isfinite(row)] for row in values]
    return [round(float(row.mean()), 4) if len(row) else None for row in rows]


def _plain(value: Any) -> Any:
    return np.round(value, 5).tolist()


def _size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def run_one(task: str, name: str, seed: int, options: argparse.Namespace) -> Record:
    """Measure one member on one task, or read what was measured."""

    def make() -> Record:
        return measure(MEMBERS[name], embedded(task, seed, options.data, options.cache), seed, Protocol())

    identity = {"task": task, "member": name, "seed": seed}
    return kept("family", identity, make, options.out, fresh=options.fresh)


def measure_tasks(
    doc: str | None, page: str, measure: Callable[[Embedded, int, Protocol], Record], tasks: list[str]
) -> None:
    """A command that measures something of every task and seed, and keeps it as a line of a page."""
    parser = parser_of(doc, page=False)
    parser.add_argument("--tasks", nargs="+", default=tasks)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def make(task: str, seed: int) -> Record:
        return measure(embedded(task, seed, options.data, options.cache), seed, Protocol())

    for seed, task in tqdm(list(product(options.seeds, options.tasks)), unit="run"):
        kept(page, {"task": task, "seed": seed}, partial(make, task, seed), options.out, fresh=options.fresh)
