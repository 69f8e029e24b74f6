"""How often regions hold the true place of a cell, and how large they are: slides kept apart from every choice.

    python -m benchmarks.regions --data ../shared/data --out benchmarks/results

A task fits one model and predicts regions for slides that it never saw. Their coordinates are read at the end, to count how many
cells lie in their regions of 50, 80 and 90 %. Areas are compared with those of one ball per cell, in proportion to the expected
error, at equal coverage: both are scaled until they hold 80 % of the cells of the slide.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

import ipar
from benchmarks.tasks.records import Record, keep, read
from benchmarks.tasks.tasks import Task, split
from ipar.metrics import region_area, region_coverage, turned_onto

LEVELS = (0.5, 0.8, 0.9)
Truth = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Training cells, and cells to place of every test slide with their true coordinates."""

    train: ad.AnnData
    queries: dict[str, tuple[ad.AnnData, Truth]]


@dataclass(frozen=True)
class Case:
    """A fit and the slides it is scored on.

    Attributes
    ----------
    name, kind
        Name on the command line, and what it is, for the report.
    load
        Reads the data, given the folder.
    flow
        Fit a flow, and take places from its samples.
    """

    name: str
    kind: str
    load: Callable[[Path], Data]
    flow: bool = False


def sections(
    file: str,
    train: tuple[str, ...],
    tests: tuple[str, ...],
    folder: Path,
    *,
    counts: bool = True,
    most_cells: int = 3000,
) -> Data:
    """Slides of a file; of large slides random cells, so that fits are quick."""
    adata, rng = ad.read_h5ad(folder / file), np.random.default_rng(0)
    slides = adata.obs["slide"].astype(str).to_numpy()
    kept = [rng.permutation(np.flatnonzero(slides == name))[:most_cells] for name in (*train, *tests)]
    adata = adata[np.sort(np.concatenate(kept))].copy()
    known = {name: split(adata, Task(name, file, name, train, "", counts)) for name in tests}
    queries = {name: (one.query, one.truth) for name, one in known.items()}
    return Data(next(iter(known.values())).train, queries)


def halves(folder: Path) -> Data:
    """A random half of the cells of a cortex, and the other half."""
    adata = ad.read_h5ad(folder / "mouse_v1_starmap_1k.h5ad")
    first = np.random.default_rng(0).random(adata.n_obs) < 0.5
    adata.obs["slide"] = np.where(first, "first", "second")
    found = split(adata, Task("v1", "", "second", ("first",), ""))
    return Data(found.train, {"second": (found.query, found.truth)})


def simulated(seed: int, mirrored: bool, folder: Path, n_slides: int = 6) -> Data:
    """Six sections of which three teach; mirrored, both sides of the tissue look alike."""
    adata = ipar.datasets.layered_tissue(n_slides=n_slides, n_cells=800, random_state=seed)
    names, rng = list(adata.obs["slide"].unique()), np.random.default_rng(seed)
    coords = np.array(adata.obsm["spatial"], dtype=np.float64)
    for name in names if mirrored else ():
        rows = np.flatnonzero(adata.obs["slide"] == name)
        coords[rows, 0] -= coords[rows, 0].max() + 20.0
        coords[rows[rng.random(len(rows)) < 0.5], 0] *= -1
    adata.obsm["spatial"] = coords
    queries = {}
    for name in names[n_slides // 2 :]:
        own = adata[adata.obs["slide"] == name].copy()
        queries[str(name)] = own, np.asarray(own.obsm.pop("spatial"))
    return Data(adata[adata.obs["slide"].isin(names[: n_slides // 2])].copy(), queries)


_BRAIN, _EMBRYO = "mouse_brain_st.h5ad", "mouse_embryo_seqfish.h5ad"
_LATE = ("Hippo5", "Hippo6", "Hippo7", "Hippo8")
_embryo = partial(sections, _EMBRYO, counts=False)

CASES = {
    case.name: case
    for case in (
        Case(
            "brain4",
            "half brain, four sections",
            partial(sections, _BRAIN, ("Hippo1", "Hippo2", "Hippo3", "Hippo4"), _LATE),
        ),
        Case("brain3", "half brain, three other sections", partial(sections, _BRAIN, _LATE[:3], _LATE[3:])),
        Case("one", "half brain, one section", partial(sections, _BRAIN, ("Hippo1",), _LATE)),
        Case("embryo3", "embryo 3 from two others", partial(_embryo, ("embryo1", "embryo2"), ("embryo3",))),
        Case("embryo2", "embryo 2 from two others", partial(_embryo, ("embryo1", "embryo3"), ("embryo2",))),
        Case("v1", "visual cortex, half of a section", halves),
        Case("ob", "olfactory bulb", partial(sections, "mouse_ob_st.h5ad", ("MOB1", "MOB2", "MOB3"), ("MOB4",))),
        Case("layers", "simulated layers", partial(simulated, 100, False)),
        Case("mirrored", "simulated, mirrored", partial(simulated, 101, True)),
        Case("mirrored_flow", "simulated, mirrored, samples of a flow", partial(simulated, 101, True), flow=True),
    )
}


def run_case(case: Case, folder: Path) -> list[Record]:
    """One record per test slide."""
    data = case.load(folder)
    several = data.train.obs["slide"].nunique() > 1
    options = {"quality": "fast", "flow": case.flow, "force": True, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ipar.tl.fit_ipalite(data.train, "slide" if several else None, **options)
        records = [
            {"task": case.name, "slide": name, **scored(model, *query, samples="flow" if case.flow else "layout")}
            for name, query in data.queries.items()
        ]
    return records


def scored(model: ipar.IPALite, cells: ad.AnnData, truth: Truth, samples: str) -> Record:
    """Coverage at every level and areas, of one slide."""
    start = time.process_time()
    ipar.tl.predict_coords(cells, model, progress=False)
    middle = time.process_time()
    ipar.tl.predict_regions(cells, model, LEVELS, samples=samples, progress=False)
    seconds = middle - start, time.process_time() - middle
    layout, places, radii = (
        np.asarray(cells.obsm[f"X_ipar{end}"], dtype=np.float64) for end in ("", "_regions", "_regions_radii")
    )
    error = cells.obs["ipar_uncertainty"].to_numpy(dtype=np.float64)
    own = _area(truth, layout, places, radii[:, 1])
    record = cells.uns["ipar"]["regions"]
    return {
        "coverage": [round(float(share), 4) for share in region_coverage(truth, layout, places, radii)],
        "area_80": round(float(region_area(places, radii[:, 1]).mean()), 4),
        "area_ratio": round(own / _area(truth, layout, layout, error), 4),
        "n_cells": cells.n_obs,
        "n_units": len(record["units"]),
        "held_out": record["held_out"],
        "localisable": bool(model.record["localisability"].get("localisable", True)),
        "seconds": [round(one, 2) for one in seconds],
    }


def _area(truth: Truth, layout: Truth, places: Truth, radius: Truth, level: float = 0.8) -> float:
    """Mean area of balls around places ``(n, 2 K)`` with radii in proportion to those given, at a coverage of ``level``."""
    where, centres = turned_onto(layout, truth), places.reshape(len(places), -1, 2)
    scores = np.linalg.norm(centres - where[:, None], axis=-1).min(axis=1) / radius
    return float(region_area(centres, radius * np.quantile(scores, level), n_points=100).mean())


def page(records: list[Record]) -> str:
    """A table of coverage and areas by task, means over test slides, and over localisable tasks."""
    lines = [
        "| task | left out | test slides | 50 % | 80 % (range) | 90 % | area over that of balls by expected error |",
        "|---|---|---|---|---|---|---|",
    ]
    means = []
    for name, case in CASES.items():
        own = [one for one in records if one["task"] == name]
        if own:
            shares = np.array([one["coverage"] for one in own])
            ratio = float(np.mean([one["area_ratio"] for one in own]))
            ends = f"{shares[:, 1].min():.0%} to {shares[:, 1].max():.0%}"
            low, middle, high = (f"{share:.1%}" for share in shares.mean(axis=0))
            mark = "" if own[0]["localisable"] else ", not localisable"
            units = f"{own[0]['n_units']} {own[0]['held_out']}"
            lines.append(
                f"| {case.kind}{mark} | {units} | {len(own)} | {low} | {middle} ({ends}) | {high} | {ratio:.2f} |"
            )
            means += [[*shares.mean(axis=0), ratio]] if own[0]["localisable"] else []
    if means:
        low, middle, high, ratio = np.mean(means, axis=0)
        lines.append(f"| **mean of localisable tasks** | | | {low:.1%} | {middle:.1%} | {high:.1%} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run, or continue, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES), help="what is run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the JSON lines")
    parser.add_argument("--fresh", action="store_true", help="measure again what has records")
    parser.add_argument("--report-only", action="store_true", help="write the table without measuring anything")
    parser.add_argument("--markdown", type=Path, default=None, help="page to write; printed, if not given")
    options = parser.parse_args()
    done = set() if options.fresh else {one["task"] for one in read("regions", options.out)}
    for name in tqdm([] if options.report_only else [one for one in options.tasks if one not in done], unit="task"):
        for record in run_case(CASES[name], options.data):
            keep("regions", record, options.out)
    text = page(read("regions", options.out))
    print(text) if options.markdown is None else options.markdown.write_text(text)


if __name__ == "__main__":
    main()
