"""What each step brought on held-out training slides, as one table: ``benchmarks.ablations.run`` has measured it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.pages.comparisons import COLUMNS, GOAL, Margin
from benchmarks.tasks.records import Record

Layouts = dict[str, dict[str, float]]  # scores of every layout of one fold and seed

INTRO = """## What every step brings

By these folds the defaults were chosen; no slide that is scored above has a part in it. Each row is a step less what it was
added to, in the same fold with the same seed and among the defaults of its time, mean ± sd over folds and seeds; in bold where
it is better. A step that is better here and yet not kept lost elsewhere, cost more time than it was worth, or has too few runs
to tell: `benchmarks/ablations.md` says which, and has the folds, the layouts themselves, what failed without a row, and what a fit
chooses by itself on a held-out training slide, such as how firmly the sharpening holds.

"""


@dataclass(frozen=True)
class Ablation:
    """A step, the layout with it, the layout without it, and what became of it.

    Names of layouts may lack what stands before their last colon; ``of`` says how the whole name begins, where not all
    folds count.
    """

    title: str
    after: str
    before: str
    verdict: str
    of: tuple[str, ...] = ("",)


ADDED = "default"
FAILED = "not kept"
REMOVED = "removed since; measured with an earlier version"
CHOSEN = "as a fit chooses"
SETS, SHARP = "… and the set encoder", "… sharpened (the default, as chosen on a left-out training slide)"
AGAIN = "… the encoder again, its set encoder of weight 1"
OVERVIEW = "embedding and set encoder, sharpened"
SKETCH = "… and the sketch, sharpened, its distances not among those held"
ALIKE, PLACED = "all genes alike, sharpened", "genes by place, sharpened"
SPATIAL = "half of the axes spatial (the default), sharpened"
NO_FLOW, WITH_FLOW = (
    "network and overview, sharpened (`flow=False`)",
    "network, overview, flow: 0.25, 0.25, 0.5, sharpened (the default)",
)
MINISETS = "finished: minisets of 96 to 384 cells, 100 candidates (the default)"
NETWORK = "finished: as it is"
SPOTS, HALF = "spots teach, sharpened", "a half dropped, sharpened"
SECTIONS, EMBRYO = ("2 sections teach", "5 sections teach"), ("half of an embryo",)

ABLATIONS = (
    Ablation("embedding: averages over like cells read beside components", "… read with the average over like cells", "embedding of components alone", ADDED),
    Ablation("embedding: genes beside components", "embedding of both", "… read with the average over like cells", ADDED),
    Ablation("embedding: a set encoder", SETS, "embedding of both", ADDED),
    Ablation("embedding: genes weighted by place, sections", PLACED, ALIKE, ADDED, SECTIONS),
    Ablation("embedding: genes weighted by place, a panel", PLACED, ALIKE, FAILED, EMBRYO),
    Ablation("embedding: half of the axes spatial, sections", SPATIAL, PLACED, ADDED, SECTIONS),
    Ablation("embedding: half of the axes spatial, a panel", SPATIAL, ALIKE, ADDED, EMBRYO),
    Ablation("embedding: a fifth of a panel's genes dropped, not a half", "a fifth dropped, sharpened", HALF, ADDED, EMBRYO),
    Ablation("embedding: a sketch, five sections teach", SKETCH, OVERVIEW, REMOVED, ("5 sections teach",)),
    Ablation("embedding: a sketch, two sections teach", SKETCH, OVERVIEW, REMOVED, ("2 sections teach",)),
    Ablation("embedding: four encoders instead of one", "… four of them, of four seeds", SETS, FAILED),
    Ablation("embedding: mean with a set transformer's layout", "… in the mean with a set transformer's layout", SETS, FAILED),
    Ablation("embedding: no dropout of genes", "… trained without dropout of genes", AGAIN, FAILED),
    Ablation("embedding: slides with half of their counts too", "… trained on slides with half of their counts too", AGAIN, FAILED),
    Ablation("scale: slides of the olfactory bulb too", "… trained on slides of another tissue too (olfactory bulb)", AGAIN, FAILED),
    Ablation("scale: slides of a liver too", "… trained on slides of another tissue too (liver)", AGAIN, FAILED),
    Ablation("scale: pretrained on other tissues", "… its network on genes pretrained on other tissues (olfactory bulb, liver)", SETS, FAILED),
    Ablation("adapting: covariance of components (CORAL)", "… its components brought to the covariance of the training slides (CORAL)", SETS, FAILED),
    Ablation("adapting: variance of genes", "… its genes brought to the variance of the training slides", SETS, FAILED),
    Ablation("adapting: optimal transport", "… its components transported onto those of the training slides (optimal transport)", AGAIN, FAILED),
    Ablation("adapting: a discriminator", "… its perceptrons adapted to the query against a discriminator (adversarial)", SETS, FAILED),
    Ablation("adapting: the query as one more slide", "… trained again, the query where it was placed as one more slide", SETS, FAILED),
    Ablation("adapting: CORAL, spots teach single cells", "… components brought to those of the spots (CORAL), sharpened", SPOTS, FAILED),
    Ablation("adapting: pseudo-slide of five cells each, spots teach single cells", "… the cells as a pseudo-slide, each with 4 like it, sharpened", SPOTS, FAILED),
    Ablation("set: minisets of 384 to 900 cells", "finished: minisets of 384 to 900 cells, 100 candidates", MINISETS, FAILED),
    Ablation("set: minisets of 96 to 900 cells", "finished: minisets of 96 to 900 cells, 100 candidates", MINISETS, FAILED),
    Ablation("set: 50 candidates instead of 100", "finished: minisets of 96 to 384 cells, 50 candidates", MINISETS, FAILED),
    Ablation("set: 200 candidates instead of 100", "finished: minisets of 96 to 384 cells, 200 candidates", MINISETS, FAILED),
    Ablation("set: landmarks", "finished: 24 landmarks among the candidates", NETWORK, FAILED),
    Ablation("set: losses of every recycle", "finished: losses of every recycle", NETWORK, FAILED),
    Ablation("set: a contact loss", "finished: a contact loss", NETWORK, FAILED),
    Ablation("local: candidates by own components too", "finished: candidates by the embedding and by own components", NETWORK, FAILED),
    Ablation("local: mutual candidates", "finished: mutual candidates, and the 20 nearest", NETWORK, FAILED),
    Ablation("local: gate reads ranks, shared neighbours, densities", "finished: the gate also reads ranks, shared neighbours and densities", NETWORK, FAILED),
    Ablation("local: gate learns hard negatives", "finished: the gate also learns contacts against hard negatives", NETWORK, FAILED),
    Ablation("local: a second pass with a gate of its own", "finished: a second pass, whose gate reads the first layout's neighbourhoods", NETWORK, FAILED),
    Ablation("local: from the global map", "finished: from the global map", NETWORK, FAILED),
    Ablation("layout: the network beside the overview", "mean of network and overview", SETS, ADDED),
    Ablation("layout: sharpened", SHARP, "mean of network and overview", ADDED),
    Ablation("layout: … by own components alone", "… sharpened by neighbours in the slide's own components alone (ω = 1)", SHARP, CHOSEN),
    Ablation("layout: … by the embedding alone", "… sharpened by neighbours in the embedding alone (ω = 0)", SHARP, CHOSEN),
    Ablation("layout: a flow", WITH_FLOW, NO_FLOW, ADDED, EMBRYO + SECTIONS),
)  # fmt: skip


def section(records: list[Record]) -> str:
    """The section of the page; nothing, where no ablation has been measured."""
    runs = layouts_of_runs(records)
    rows = [row for ablation in ABLATIONS if (row := _row(ablation, runs))]
    if not rows:
        return ""
    titles = [COLUMNS[key][0] for key in GOAL]
    head = [f"| step | {' | '.join(titles)} | runs | |", "|---" * (len(GOAL) + 3) + "|"]
    return INTRO + "\n".join([*head, *rows]) + "\n"


def gaps(ablation: Ablation, runs: list[Layouts]) -> list[dict[str, float]]:
    """Scores with the step less those without it, of every run that has both."""
    found = []
    for layouts in runs:
        after, before = (_named(layouts, name, ablation.of) for name in (ablation.after, ablation.before))
        if after and before:
            found.append({key: after[key] - before[key] for key in GOAL})
    return found


def _row(ablation: Ablation, runs: list[Layouts]) -> str | None:
    found = gaps(ablation, runs)
    if not found:
        return None
    cells = [Margin("", np.array([one[key] for one in found]), bool(COLUMNS[key][1])).cell() for key in GOAL]
    return f"| {ablation.title} | {' | '.join(cells)} | {len(found)} | {ablation.verdict} |"


def _named(layouts: Layouts, name: str, of: tuple[str, ...]) -> dict[str, float] | None:
    for whole, scores in layouts.items():
        if (whole == name or whole.endswith(f": {name}")) and whole.startswith(of):
            return scores
    return None


def layouts_of_runs(records: list[Record]) -> list[Layouts]:
    """All layouts of each fold and seed, whatever group measured them."""
    found: dict[tuple[str, int], Layouts] = {}
    for record in records:
        if record["group"] not in ("doubts", "neighbors"):  # they are no layouts
            found.setdefault((record["fold"], record["seed"]), {}).update(record["layouts"])
    return list(found.values())
