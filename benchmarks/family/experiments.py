"""What single knobs of the recipe do: named variants of the default, fitted and scored as the family is.

    python -m benchmarks.family.experiments --data ../shared/data

Every (task, variant, seed) is kept as a line of ``family_experiments.jsonl``, and an interrupted run goes on where it stopped.
``benchmarks.family.run`` puts them on its page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.family.fits import Protocol, scores, train
from benchmarks.tasks.embedded import Embedded, embedded
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
from ipar.model.network import NetworkLayout
from ipar.training import Folds, NetworkRecipe, Run
from ipar.training.held_out import StageFit
from ipar.training.minisets import sample_minisets
from ipar.training.validation import sweep_beta

TASKS = ["brain2", "embryo"]
BETAS = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Variant:
    """The default recipe with some fields changed.

    Attributes
    ----------
    group, name
        What it is of, and its name in the table.
    training, weights, config, plan
        Fields of the training, of the weights of its losses, of the network and of the minisets.
    swept
        Whether the gate's weight β is also chosen at inference, on the held-out training slide.
    """

    group: str
    name: str
    training: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    swept: bool = False

    def of(self, base: NetworkRecipe) -> NetworkRecipe:
        """The recipe."""
        weights = replace(base.training.weights, **self.weights)
        training = replace(base.training, weights=weights, **self.training)
        return replace(
            base, training=training, config=replace(base.config, **self.config), plan=replace(base.plan, **self.plan)
        )


def augmented(name: str, share: float) -> Variant:
    """A share of the default's augmentation."""
    default = NetworkRecipe().training
    names = ("embedding_noise", "embedding_dropout", "edge_drop")
    return Variant("augmentation", f"augmentation {name}", {key: share * getattr(default, key) for key in names})


DEFAULT = "the default"
GATE = "weight of the gate in the logits, β, and of its loss, λ"
WALK = "walk, ramp and stress"
_LONG = {"max_epochs": 16, "patience": 4}  # of half the minisets: as many steps, and the longer ramp has an end
_FULL = "D7, cosine"
_D7 = {"qk_norm": "cosine", "geometry": "clamped"}
_WITHOUT = {"qk": {"qk": False}, "geometry": {"geometry": "none"}, "gate": {"gate": False}}
BASES = {WALK: "walk 0.3, ramp 6, stress 0.1", "terms of the logits": _FULL}
"""What the variants of a group are compared to, where it is not the default."""
VARIANTS = {
    one.name: one
    for one in (
        Variant(GATE, DEFAULT, swept=True),
        *(augmented(name, share) for name, share in {"none": 0.0, "soft": 1 / 3, "mid": 2 / 3}.items()),
        Variant("terms of the logits", _FULL, config=_D7),
        *(Variant("terms of the logits", f"D7 without {term}", config=_D7 | off) for term, off in _WITHOUT.items()),
        Variant("pretraining of the gate", "gate from scratch", {"gate_steps": 0}),
        Variant("pretraining of the gate", "gate after 2,000 steps alone", {"gate_steps": 2000}),
        *(
            Variant(
                GATE,
                f"β {beta:g}, λ {gate:g}",
                weights={"gate": gate},
                config={"beta": beta},
                swept=True,
            )
            for beta in (2.0, 0.5, 4.0)
            for gate in (0.05, 0.01, 0.2)
            if (beta, gate) != (2.0, 0.05)
        ),
        *(
            Variant(
                WALK,
                f"walk {walk:g}, ramp {ramp}, stress {stress:g}",
                _LONG | {"ramp_epochs": ramp},
                {"walk": walk, "stress": stress},
                plan={"n_minisets": 32},
            )
            for ramp in (6, 12)
            for stress in (0.1, 0.2, 0.3)
            for walk in (0.3, 0.5, 1.0)
        ),
    )
}


FACTORS: dict[str, dict[str, Callable[[NetworkRecipe], float]]] = {
    GATE: {"β": lambda one: one.config.beta, "λ": lambda one: one.training.weights.gate},
    WALK: {
        "walk": lambda one: one.training.weights.walk,
        "ramp": lambda one: one.training.ramp_epochs,
        "stress": lambda one: one.training.weights.stress,
    },
}
"""What a group varies in all combinations."""


def pairs_of(group: str, factor: str) -> dict[float, list[tuple[str, str]]]:
    """By every value of a factor but the first: variants that have it, each with the one that has the first and all else alike."""
    levels = {
        name: {key: get(one.of(NetworkRecipe())) for key, get in FACTORS[group].items()}
        for name, one in VARIANTS.items()
        if one.group == group
    }
    first = levels[BASES.get(group, DEFAULT)][factor]
    found: dict[float, list[tuple[str, str]]] = {}
    for name, own in levels.items():
        if own[factor] != first:
            other = next(one for one, twin in levels.items() if twin == own | {factor: first})
            found.setdefault(own[factor], []).append((name, other))
    return found


def sweep(fit: StageFit[NetworkLayout], recipe: NetworkRecipe, slides: Embedded, seed: int, n_scored: int) -> Record:
    """E_geo by β: of the held-out training slide, by networks that were trained without it, and of the test slide."""
    held_out = Folds.of([len(x) for x in slides.train], Run(seed)).held_out
    h, x = torch.from_numpy(slides.train[held_out]), torch.from_numpy(slides.coords[held_out])
    plan, without, network = recipe.plan, fit.held_out, fit.stage
    own = sample_minisets([h], [x], n_scored, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed + 1)
    sets = slides.scored(n_scored, plan.size, plan.n_neighbors, seed)
    return {
        "by_beta": {
            "held_out": sweep_beta(without.net, without.gate, own, BETAS),
            "test": sweep_beta(network.net, network.gate, sets, BETAS),
        }
    }


def measure(variant: Variant, slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Train a variant and score it."""
    recipe = variant.of(protocol.recipe)
    fit = train(recipe, slides, seed)
    found = scores(fit, recipe, slides, seed, protocol)
    return found | (sweep(fit, recipe, slides, seed, protocol.n_scored) if variant.swept else {})


def run_one(task: str, name: str, seed: int, options: argparse.Namespace) -> Record:
    """Measure one variant on one task, or read what was measured."""

    def make() -> Record:
        return measure(VARIANTS[name], embedded(task, seed, options.data, options.cache), seed, Protocol())

    identity = {"task": task, "variant": name, "seed": seed}
    return kept("family_experiments", identity, make, options.out, fresh=options.fresh)


def main() -> None:
    """Run, or go on."""
    parser = parser_of(__doc__, seeds=range(2), page=False)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--groups", nargs="+", default=sorted({one.group for one in VARIANTS.values()}))
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name, one in VARIANTS.items() if one.group in options.groups]
    for task, name, seed in tqdm([(t, n, s) for s in options.seeds for t in options.tasks for n in names], unit="run"):
        run_one(task, name, seed, options)


if __name__ == "__main__":
    main()
