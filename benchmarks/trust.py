"""Is a query that does not belong told from one that does, and do expected errors follow? One page and JSON lines.

    python -m benchmarks.trust --data ../shared/data --markdown docs/trust.md

A model of a tissue sees slides of it that it was not taught on, slides of other tissues with the genes that both share, and
slides that were spoilt: counts thinned out, genes renamed, genes shuffled over cells, noise.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tqdm.auto import tqdm

import ipar
from benchmarks import regions
from benchmarks import trust_texts as texts
from benchmarks.tasks.options import parser_of, write_page
from benchmarks.tasks.records import Record, keep, read
from benchmarks.tasks.tasks import TASKS
from benchmarks.tasks.tasks import load as load_task
from ipar.metrics import cell_errors, uncertainty_spearman
from ipar.training.resemblance import approximate_counts, shuffled, thinned

PAGE = "trust"


@dataclass(frozen=True)
class Tissue:
    """A file, slides that teach and slides kept apart; of a single section, halves drawn at random.

    Attributes
    ----------
    file
        File of the data folder.
    train, test
        Names of slides.
    counts
        Whether it holds raw counts.
    """

    file: str
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    counts: bool = True


TISSUES = {
    "brain": Tissue(
        "mouse_brain_st", ("Hippo1", "Hippo2", "Hippo3", "Hippo4"), ("Hippo5", "Hippo6", "Hippo7", "Hippo8")
    ),
    "liver": Tissue("mouse_liver_st", ("CN16_E1", "CN16_D1", "CN73_D1", "CN65_D1"), ("CN73_C1", "CN65_D2", "CN65_E1")),
    "ob": Tissue("mouse_ob_st", ("MOB1", "MOB2", "MOB3"), ("MOB4",)),
    "embryo": Tissue("mouse_embryo_seqfish", ("embryo1", "embryo2"), ("embryo3",), counts=False),
    "v1": Tissue("mouse_v1_starmap_1k"),
    "cortex cells": Tissue("mouse_cortex_zeisel550_sc", test=("sc",)),
}
PAIRS = (
    ("brain", "liver"),
    ("brain", "ob"),
    ("v1", "brain"),
    ("ob", "brain"),
    ("ob", "liver"),
    ("liver", "brain"),
    ("liver", "ob"),
    ("embryo", "brain"),
    ("embryo", "cortex cells"),
    ("brain", "v1"),
    ("v1", "liver"),
)
CHOSEN_ON = PAIRS[:3]
"""Pairs that were looked at while constants were chosen; the others were kept apart."""
DEPTHS = (4, 22, 108, 400)
_MOST_CELLS = 2000


def read_tissue(name: str, folder: Path) -> ad.AnnData:
    """Expression, slide and coordinates of a tissue, at most 2,000 cells per slide."""
    one = TISSUES[name]
    whole = ad.read_h5ad(folder / f"{one.file}.h5ad")
    rng = np.random.default_rng(0)
    slides = whole.obs["slide"].astype(str).to_numpy()
    rows = [rng.permutation(np.flatnonzero(slides == slide))[:_MOST_CELLS] for slide in np.unique(slides)]
    kept = np.sort(np.concatenate(rows))
    bare = ad.AnnData(sparse.csr_matrix(whole.X[kept], dtype=np.float32), obs=whole.obs[["slide"]].iloc[kept].copy())
    bare.var_names, bare.obs_names = whole.var_names, [f"cell{i}" for i in range(len(kept))]
    bare.obs["slide"] = bare.obs["slide"].astype(str).astype("category")
    if "spatial" in whole.obsm:
        bare.obsm["spatial"] = np.asarray(whole.obsm["spatial"], dtype=float)[kept, :2]
    return bare


def normalised(adata: ad.AnnData, counts: bool) -> ad.AnnData:
    """Cells with counts, log-normalised."""
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
    if counts:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    return adata


def pair(own: str, other: str, folder: Path) -> tuple[ad.AnnData, list[ad.AnnData], list[ad.AnnData]]:
    """Training slides, slides kept apart, and slides of the other tissue, with the genes that both have."""
    first, second = (read_tissue(name, folder) for name in (own, other))
    genes = first.var_names[first.var_names.isin(second.var_names)]
    first, second = (normalised(x[:, genes], TISSUES[name].counts) for x, name in ((first, own), (second, other)))
    one = TISSUES[own]
    if one.train:
        train = first[first.obs["slide"].isin(one.train)].copy()
        apart = [first[first.obs["slide"] == slide].copy() for slide in one.test]
    else:
        half = np.random.default_rng(5).random(first.n_obs) < 0.5
        train, apart = first[half].copy(), [first[~half].copy()]
    foreign = [
        second[second.obs["slide"] == slide].copy() for slide in TISSUES[other].test or second.obs["slide"].unique()
    ]
    return train, apart, foreign


def spoilt(slide: ad.AnnData) -> Iterator[tuple[str, ad.AnnData]]:
    """A slide thinned out to few counts, and without what makes it a tissue."""
    rng = np.random.default_rng(1)
    x = sparse.csr_matrix(slide.X, dtype=np.float32)
    counts = approximate_counts(x)
    depth = float(np.median(np.asarray(counts.sum(axis=1))))
    for target in DEPTHS:
        if target < depth:
            yield f"thinned to {target}", _with(slide, thinned(x, counts, np.full(len(slide), target / depth), rng))
    dense = x.toarray()
    yield "genes renamed", _with(slide, dense[:, rng.permutation(dense.shape[1])])
    yield "genes shuffled in every cell", _with(slide, rng.permuted(dense, axis=1))
    yield "cells shuffled in every gene", _with(slide, shuffled(x, rng))
    rates = np.expm1(dense).mean(axis=0)
    noise = rng.poisson(depth * rates / rates.sum(), size=dense.shape)
    total = np.maximum(noise.sum(axis=1, keepdims=True), 1)
    yield "noise", _with(slide, np.log1p(noise / total * np.median(np.expm1(dense).sum(axis=1))))


def _with(slide: ad.AnnData, x: Any) -> ad.AnnData:
    changed = ad.AnnData(sparse.csr_matrix(x, dtype=np.float32), obs=slide.obs.copy(), var=slide.var.copy())
    changed.obsm["spatial"] = slide.obsm["spatial"]
    return changed


def queries(apart: list[ad.AnnData], foreign: list[ad.AnnData]) -> Iterator[tuple[str, str, ad.AnnData]]:
    """Kind, name and cells."""
    for slide in apart:
        yield "real", str(slide.obs["slide"].iloc[0]), slide
    for slide in foreign:
        yield "foreign", str(slide.obs["slide"].iloc[0]), slide
    for name, slide in spoilt(apart[0]):
        yield "thinned" if name.startswith("thinned") else "spoilt", name, slide


def measured(model: ipar.IPALite, cells: ad.AnnData) -> Record:
    """Distance, threshold, and expected and true errors of a query."""
    cells = cells.copy()
    truth: NDArray[np.float64] | None = cells.obsm.pop("spatial", None)
    ipar.tl.predict_coords(cells, model, progress=False)
    found = cells.uns["ipar"]["prediction"]["resembles_training"]
    expected = cells.obs["ipar_uncertainty"].to_numpy(dtype=float)
    told = {name: float(found[name][0]) for name in ("distance", "threshold", "agreement", "profile")}
    told |= {"expected": float(np.nanmean(expected)), "belongs": float(np.nanmedian(cells.obs["ipar_belongs"]))}
    if truth is None:
        return told
    known = np.isfinite(expected)
    error = cell_errors(truth, cells.obsm["X_ipar"])
    told |= {"error": float(error.mean()), "n_cells": len(error), "slope": _slope(expected[known], error[known])}
    return told | {"spearman": float(uncertainty_spearman(error[known], expected[known]))}


def _slope(expected: NDArray[np.floating], error: NDArray[np.floating]) -> float:
    """Of true on expected error."""
    if np.ptp(expected) == 0:
        return float("nan")
    return float(np.polyfit(expected, error, 1)[0])


def run_model(name: str, train: ad.AnnData, given: Iterator[tuple[str, str, ad.AnnData]], out: Path) -> None:
    """Fit a model and measure all queries."""
    several = train.obs["slide"].nunique() > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ipar.tl.fit_ipalite(train, "slide" if several else None, quality="fast", force=True, progress=False)
        for kind, query, cells in given:
            keep(PAGE, {"model": name, "kind": kind, "query": query} | measured(model, cells), out)


def run_pair(own: str, other: str, options: argparse.Namespace) -> None:
    """A model of one tissue, and slides of another."""
    train, apart, foreign = pair(own, other, options.data)
    run_model(f"{own}, {other}", train, queries(apart, foreign), options.out)


def run_task(task: str, options: argparse.Namespace) -> None:
    """A task of the main benchmark, whose query belongs."""
    slides = load_task(TASKS[task], options.data)
    query = slides.query.copy()
    query.obsm["spatial"] = slides.truth
    run_model(task, slides.train, iter([("real", TASKS[task].test, query)]), options.out)


def page(records: list[Record], folder: Path) -> str:
    """Tables of what was caught, of expected and true errors, and of regions, whose records are in a folder."""
    chosen = {f"{own}, {other}" for own, other in CHOSEN_ON}
    lines = [*texts.INTRODUCTION, *_caught(records, chosen), "", *texts.BELONGING]
    lines += ["| model | query | distance | limit | expected error | true error | slope | rank correlation |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for one in records:
        if one["kind"] == "real":
            lines.append(
                f"| {one['model']} | {one['query']} | {one['distance']:.2f} | {one['threshold']:.2f} | {one['expected']:.2f} | "
                f"{one['error']:.2f} | {one['slope']:.2f} | {one['spearman']:.2f} |"
            )
    lines += ["", *texts.SPOILT, *_spoilt(records), "", *texts.REGIONS]
    lines += [regions.page(read("regions", folder)).rstrip(), "", *texts.VALUES]
    return "\n".join([*lines, ""])


def _caught(records: list[Record], chosen: set[str]) -> list[str]:
    lines = [
        "| model, other tissue | limit | real slides, largest distance | foreign, least | AUROC | foreign called foreign |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name in dict.fromkeys(one["model"] for one in records if one["kind"] == "foreign"):
        real, foreign = (
            [one for one in records if one["model"] == name and one["kind"] == kind] for kind in ("real", "foreign")
        )
        caught = sum(one["distance"] > one["threshold"] for one in foreign)
        lines.append(
            f"| {name}{' (constants were chosen on it)' if name in chosen else ''} | {real[0]['threshold']:.1f} | "
            f"{max(one['distance'] for one in real):.1f} | {min(one['distance'] for one in foreign):.1f} | "
            f"{_auroc(real, foreign):.2f} | {caught} of {len(foreign)} |"
        )
    real = [one for one in records if one["kind"] == "real"]
    for kinds, what in ((("foreign",), "foreign"), (("foreign", "spoilt"), "foreign or spoilt")):
        for group, apart in (("all models", False), ("models kept apart", True)):
            own = [one for one in records if not (apart and one["model"] in chosen)]
            bad = [one for one in own if one["kind"] in kinds]
            lines += [
                "",
                f"AUROC of the distance over {group}, {what} against real: {_auroc([one for one in own if one['kind'] == 'real'], bad):.3f}.",
            ]
    false = sum(one["distance"] > one["threshold"] for one in real)
    return [*lines, "", f"False alarms: {false} of {len(real)} real queries."]


def _auroc(real: list[Record], foreign: list[Record]) -> float:
    """Of the distance over its limit."""
    if not real or not foreign:
        return float("nan")
    values = [one["distance"] / one["threshold"] for one in (*real, *foreign)]
    return float(roc_auc_score([0] * len(real) + [1] * len(foreign), values))


def _spoilt(records: list[Record]) -> list[str]:
    """Means over models, by what was done."""
    lines = ["| query | called foreign | expected error | true error | models |", "|---|---|---|---|---|"]
    names = {one["query"] for one in records if one["kind"] in ("thinned", "spoilt")}
    for name in sorted(
        names, key=lambda name: (name.startswith("thinned"), int(name.split()[-1]) if name[-1].isdigit() else 0, name)
    ):
        own = [one for one in records if one["query"] == name]
        caught = sum(one["distance"] > one["threshold"] for one in own)
        expected, error = (np.mean([one[key] for one in own]) for key in ("expected", "error"))
        lines.append(f"| {name} | {caught} of {len(own)} | {expected:.2f} | {error:.2f} | {len(own)} |")
    return [*lines, "", *_thinned(records)]


def _thinned(records: list[Record]) -> list[str]:
    found = []
    for name in dict.fromkeys(one["model"] for one in records if one["kind"] == "thinned"):
        own = [
            (int(one["query"].split()[-1]), one["expected"])
            for one in records
            if one["model"] == name and one["kind"] == "thinned"
        ]
        if len(own) > 2:
            found.append(float(spearmanr(*zip(*own, strict=True)).statistic))
    return (
        [f"Spearman correlation of depth and expected error, mean over {len(found)} models: {np.mean(found):.2f}."]
        if found
        else []
    )


def main() -> None:
    """Run what is missing, and write the page."""
    parser = parser_of(__doc__, seeds=(0,))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    options = parser.parse_args()
    if not options.report_only:
        known = {one["model"] for one in read(PAGE, options.out)}
        todo = [(f"{own}, {other}", partial(run_pair, own, other, options)) for own, other in PAIRS]
        todo += [(task, partial(run_task, task, options)) for task in options.tasks]
        for name, run in tqdm(todo, unit="model"):
            if options.fresh or name not in known:
                run()
    write_page(page(read(PAGE, options.out), options.out), options.markdown)


if __name__ == "__main__":
    main()
