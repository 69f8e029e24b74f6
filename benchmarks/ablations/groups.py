"""Groups of ablations: what each measures, and on which folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.ablations import (
    adaptation,
    blends,
    components,
    doubts,
    encoder,
    flows,
    neighbors,
    networks,
    spots,
    training,
)
from benchmarks.ablations.components import Ways
from benchmarks.ablations.fits import Layouts, scored
from benchmarks.ablations.folds import EMBRYO, SECTIONS, WHOLE, kind_of, load
from benchmarks.tasks.records import Record

Runs = tuple[tuple[str, int], ...]
"""Folds and seeds."""

STEP_FOLDS, TRAINING_FOLDS = ("brain5", "brain2b"), ("brain2b",)
FLOW_FOLDS = ("brain5", "brain5b", "brain5c", "brain5d", "brain2b", "brain2c", "brain2d")
NETWORK_FOLDS = ("brain2b", "brain5b")
SHARE_FOLDS = ("brain2b", "brain2c", "brain2d", "brain5", "brain5b", "brain5d")
PANEL_FOLDS, DOUBT_FOLDS = ("brain5", "brain5b"), ("brain2c", "brain5b", "brain5d")
SEEDS = (0, 1, 2)  # of the halves of the embryo


def runs_of(folds: tuple[str, ...], embryo_seeds: tuple[int, ...] = ()) -> Runs:
    """Halves of the embryo with these seeds, then folds of sections with one."""
    return (*((EMBRYO.name, seed) for seed in embryo_seeds), *((fold, 0) for fold in folds))


@dataclass(frozen=True)
class Group:
    """Ablations that are measured together.

    Attributes
    ----------
    runs
        Folds and seeds.
    measure
        From a fold, a seed and the folder of the data to a record; None where ipar no longer has the step, so that its
        records are of an earlier version.
    """

    runs: Runs
    measure: Callable[[str, int, Path], Record] | None


def layouts_by(
    make: Callable[..., Layouts], *, with_data: bool = False, kinds: bool = False, n_slides: int = 2
) -> Callable[[str, int, Path], Record]:
    """Measure the layouts that are made of slides and a seed.

    Parameters
    ----------
    make
        Makes them.
    with_data
        It reads other tissues too, from the folder of the data.
    kinds
        Names of layouts begin with what teaches.
    n_slides
        Slides that the teaching half of the embryo is dealt into.
    """

    def measure(fold: str, seed: int, data: Path) -> Record:
        slides = load(fold, seed, data, n_slides=n_slides)
        found = make(slides, seed, data) if with_data else make(slides, seed)
        return {"layouts": scored(found, slides.truth, f"{kind_of(fold)}: " if kinds else "")}

    return measure


def by_panel(fold: str, seed: int, data: Path) -> Record:
    """Measure sections cut down to a panel of genes, or the embryo, which has one."""
    slides, kind = load(fold, seed, data, n_slides=1), kind_of(fold)
    if fold != EMBRYO.name:
        slides, kind = components.as_panel(slides), f"sections, {components.N_GENES} genes"
    return {"layouts": scored(components.layouts_of_panels(slides, seed), slides.truth, f"{kind}: ")}


def by_weights(ways: Ways) -> Callable[[str, int, Path], Record]:
    """Measure recipes that differ in what components are made of."""
    return layouts_by(partial(components.layouts, ways=ways), kinds=True, n_slides=1)


GROUPS = {
    "encoder": Group(runs_of(STEP_FOLDS), layouts_by(encoder.layouts)),
    "sketch": Group(runs_of(tuple(SECTIONS)), None),
    "transfer": Group(runs_of(TRAINING_FOLDS), layouts_by(training.layouts, with_data=True)),
    "adaptation": Group(runs_of(STEP_FOLDS), layouts_by(adaptation.layouts, with_data=True)),
    "steps": Group(runs_of(STEP_FOLDS), layouts_by(blends.layouts_by_steps)),
    "minisets": Group(runs_of(TRAINING_FOLDS), layouts_by(training.layouts_by_minisets)),
    "networks": Group(runs_of(NETWORK_FOLDS), layouts_by(networks.layouts)),
    "flow starts": Group(runs_of(NETWORK_FOLDS), layouts_by(flows.layouts)),
    "flow": Group(runs_of(FLOW_FOLDS), layouts_by(blends.layouts_by_flow)),
    "spots": Group(runs_of((), SEEDS), layouts_by(spots.layouts, n_slides=1)),
    "panels": Group(runs_of(PANEL_FOLDS, SEEDS), by_panel),
    "weights": Group(runs_of(FLOW_FOLDS, SEEDS), by_weights(components.WEIGHTS)),
    "axes": Group(runs_of(FLOW_FOLDS, SEEDS), by_weights(components.AXES)),
    "shares": Group(runs_of(SHARE_FOLDS, (0,)), layouts_by(blends.layouts_by_shares, kinds=True)),
    "neighbors": Group(
        tuple((slide, 0) for slide in WHOLE), lambda slide, _, data: {"shares": neighbors.measure(slide, data)}
    ),
    "doubts": Group(
        runs_of(DOUBT_FOLDS, (0,)),
        lambda fold, seed, data: {"layouts": doubts.measure(load(fold, seed, data), seed)},
    ),
}
