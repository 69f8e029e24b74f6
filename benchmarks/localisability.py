"""How often is the verdict "can be localised" wrong? Simulated tissues of graded difficulty.

    python -m benchmarks.localisability --markdown docs/localisability.md

Every run is kept as a line of ``localisability.jsonl`` and is not repeated. Only embeddings are fitted, with a small recipe
on small sections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

import ipar
from benchmarks.tasks.embedded import slide_set, unplaced
from benchmarks.tasks.options import parser_of, write_page
from benchmarks.tasks.records import Record, kept, read
from ipar.metrics import luna_spearman, procrustes_error
from ipar.model.blend import global_map
from ipar.training import EncoderRecipe, EncoderTraining, Folds, Run, SetEncoderTraining, fit_embedding
from ipar.training.taught import embed_slide

SET_ON = tuple(range(9))  # seeds seen while the verdict and its limits were chosen; no choice knows the others
N_CELLS, N_GENES = 250, 250
EXPLAINED_MIN = 0.25  # what "can be localised" means here
RECIPE = EncoderRecipe(
    inputs="pca",
    pca_hidden=(64,),
    n_output=32,
    pca_training=EncoderTraining(n_steps=150, batch_size=128),
    set_encoder_training=SetEncoderTraining(n_steps=1, batch_size=1, size=(32, 32)),  # the verdict does not ask it
)
INTRO = """# How often the verdict is wrong

{{doc}}`concepts` explains how ipar judges whether a tissue can be localised. This page compares that verdict, made on two
sections, with the result on a third, held-out section. The tissues are simulated at graded difficulty, with {cells} cells per
section, {genes} genes and {seeds} seeds. `python -m benchmarks.localisability` repeats it.

By definition, a tissue *can be localised* here if the first two principal components of the global features explain at least
{explained:.0%} of the variance of the true positions on the held-out section, after the best similarity transform. For a meaningless
layout this share is near zero.
"""
OUTRO = """Means ± sd over all seeds. *Unseen* columns are of the held-out section. The others are the basis of the verdict: each of the
two training sections, held out and predicted from the other. *Explained* is the share of the variance of positions, *two
places* the share of cells whose neighbours in the embedding lie in two distant places.
"""
SHOWN = ("explained", "luna_spearman", "explained_left_out", "distance_spearman", "recall_ratio", "two_places")
_COLUMNS = ("seen while the verdict was chosen", "no choice knows them")
_RATES = {
    "miss": "miss: passed, although it cannot be localised",
    "false alarm": "false alarm: refused, although it can",
    "mirror found": "mirrored tissue called repeated",
    "mirror falsely seen": "tissue without repeats called repeated",
}
Simulate = Callable[[int], ad.AnnData]


@dataclass(frozen=True)
class Tissue:
    """A kind of tissue: how it is simulated from a seed, and whether it repeats."""

    kind: str
    grade: str
    simulate: Simulate
    repeats: bool = False


def layers(seed: int, median_counts: float = 3000.0) -> ad.AnnData:
    """Three sections of a cortex-like tissue."""
    return ipar.datasets.layered_tissue(3, N_CELLS, N_GENES, median_counts=median_counts, random_state=seed)


def displaced(seed: int, share: float) -> ad.AnnData:
    """Sections in which a share of the cells lies anywhere: what expression tells of the place becomes weaker."""
    adata, rng = layers(seed), np.random.default_rng(seed)
    for name in adata.obs["slide"].cat.categories:
        cells = np.flatnonzero(adata.obs["slide"] == name)
        moved = rng.permutation(cells)[: round(share * len(cells))]
        adata.obsm["spatial"][moved] = adata.obsm["spatial"][rng.permutation(moved)]
    return adata


def mirrored(seed: int) -> ad.AnnData:
    """Sections beside their mirror image: every cell lies on one of the two sides at random."""
    adata, rng = layers(seed), np.random.default_rng(seed)
    for name in adata.obs["slide"].cat.categories:
        cells = np.flatnonzero(adata.obs["slide"] == name)
        place = adata.obsm["spatial"][cells]
        distance = place[:, 0] - place[:, 0].min()
        place[:, 0] = np.where(rng.random(len(cells)) < 0.5, distance, -distance)
        adata.obsm["spatial"][cells] = place
    return adata


def lobules(seed: int, median_counts: float) -> ad.AnnData:
    """Three sections of liver."""
    return ipar.datasets.liver_lobules(3, N_CELLS, N_GENES, median_counts=median_counts, random_state=seed)


TISSUES = [
    *(
        Tissue("layers, depth", f"{n} molecules per cell", lambda seed, n=n: layers(seed, n))
        for n in (3000, 800, 400, 200, 100)
    ),
    *(
        Tissue("layers, displaced", f"{share:.0%} of the cells anywhere", lambda seed, s=share: displaced(seed, s))
        for share in (0.2, 0.4, 0.6, 0.8, 1.0)
    ),
    *(
        Tissue("lobules", f"{n} molecules per cell", lambda seed, n=n: lobules(seed, n), repeats=True)
        for n in (3000, 1000)
    ),
    Tissue("layers, mirrored", "two sides", mirrored, repeats=True),
]


def run_one(tissue: Tissue, seed: int) -> Record:
    """The verdict on two training sections, and the accuracy that the embedding reaches on the third."""
    slides = tissue.simulate(seed)
    unseen = slides.obs["slide"] == "slide3"
    train, query = slides[~unseen].copy(), slides[unseen].copy()
    truth = query.obsm.pop("spatial")
    known, run = slide_set(train), Run(seed)
    fit = fit_embedding(known, Folds.of(known.sizes, run, n_folds=RECIPE.n_folds), RECIPE, run)
    h = embed_slide(fit.encoder, unplaced(query)).embedding
    layout = global_map(h[:, fit.encoder.global_columns]).numpy()
    verdict = {key: float(value) for key, value in fit.localisability.to_dict().items() if key != "held_out"}
    verdict["explained_left_out"] = verdict.pop("explained")
    accuracy = {
        "explained": 1 - procrustes_error(truth, layout).rmse ** 2,
        "luna_spearman": luna_spearman(truth, layout),
    }
    return {"kind": tissue.kind, "grade": tissue.grade, "seed": seed, "repeats": tissue.repeats} | verdict | accuracy


def run_all(seeds: Sequence[int], folder: Path, *, fresh: bool = False) -> None:
    """Measure what has not been measured yet."""
    for tissue, seed in tqdm([(tissue, seed) for seed in seeds for tissue in TISSUES], unit="run"):
        identity = {"kind": tissue.kind, "grade": tissue.grade, "seed": seed}
        kept("localisability", identity, partial(run_one, tissue, seed), folder, fresh=fresh)


def stored(seeds: Sequence[int], folder: Path) -> pd.DataFrame:
    """All runs, seed by seed and in the order of the tissues."""
    found = {(one["seed"], one["kind"], one["grade"]): one for one in read("localisability", folder)}
    order = [(seed, tissue.kind, tissue.grade) for seed in seeds for tissue in TISSUES]
    return pd.DataFrame([found[one] for one in order if one in found])


def rates(runs: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """How many of how many verdicts were wrong, each way."""
    can, said = runs["explained"] >= EXPLAINED_MIN, runs["localisable"] == 1
    mirrored_runs = runs["kind"] == "layers, mirrored"
    single = ~runs["repeats"].astype(bool)
    repeated = runs["repeated"] == 1
    return {
        "miss": (int((said & ~can).sum()), int((~can).sum())),
        "false alarm": (int((~said & can).sum()), int(can.sum())),
        "mirror found": (int((repeated & mirrored_runs).sum()), int(mirrored_runs.sum())),
        "mirror falsely seen": (int((repeated & single).sum()), int(single.sum())),
    }


def wrong(runs: pd.DataFrame) -> str:
    """The verdicts that were wrong, each with what its tissue reached."""
    mistaken = runs[(runs["explained"] >= EXPLAINED_MIN) != (runs["localisable"] == 1)]
    cases = [
        f"{run.kind}, {run.grade}, seed {run.seed} ({'passed' if run.localisable else 'refused'}, {run.explained:.2f} explained"
        f"{', warned of as repeated' if run.repeated else ''})"
        for run in mistaken.itertuples()
    ]
    return f"Wrong verdicts, with the variance explained: {'; '.join(cases) or 'none'}."


def table_of_rates(runs: pd.DataFrame) -> list[str]:
    """Rates on the seeds that limits were set on, and on others."""
    known = runs["seed"].isin(SET_ON)
    parts = [runs[known], runs[~known]]
    names = [
        f"{title} (seeds {', '.join(map(str, part['seed'].unique()))})"
        for title, part in zip(_COLUMNS, parts, strict=True)
    ]
    found = [{name: f"{a} of {b}" for name, (a, b) in rates(part).items()} for part in parts]
    return [
        f"| | {' | '.join(names)} |",
        "|---|---|---|",
        *(f"| {title} | {' | '.join(rate[name] for rate in found)} |" for name, title in _RATES.items()),
    ]


def markdown(runs: pd.DataFrame) -> str:
    """The page."""
    lines = [INTRO.format(cells=N_CELLS, genes=N_GENES, seeds=runs["seed"].nunique(), explained=EXPLAINED_MIN)]
    lines += [*table_of_rates(runs), "", wrong(runs), ""]
    lines += [
        "| tissue | grade | explained, unseen | Spearman, unseen | explained | distance correlation | recall ÷ chance | two places | passed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (kind, grade), own in runs.groupby(["kind", "grade"], sort=False):
        figures = [f"{own[name].mean():.2f} ± {own[name].std():.2f}" for name in SHOWN]
        lines.append(f"| {kind} | {grade} | {' | '.join(figures)} | {int(own['localisable'].sum())} of {len(own)} |")
    return "\n".join([*lines, "", OUTRO])


def main() -> None:
    """Run, or continue, and write the page."""
    options = parser_of(__doc__, seeds=range(15)).parse_args()
    if not options.report_only:
        run_all(options.seeds, options.out, fresh=options.fresh)
    write_page(markdown(stored(options.seeds, options.out)), options.markdown)


if __name__ == "__main__":
    main()
