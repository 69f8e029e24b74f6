"""How often the frame of cells on a section is right: simulated sections of which half the cells teach.

    python -m benchmarks.frames --trials 40 --out benchmarks/results --markdown docs/frames.md

A trial simulates one section. Half of its cells teach with their coordinates; the others are placed without theirs, so that
the right frame is that of the section. A second set of trials mirrors half of all cells to the other side first: no method can
tell the sides of such a tissue, and the right answer is that it cannot be told.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

import ipar
from benchmarks.tasks.records import Record, kept, read
from ipar.geometry.frames import weighted_similarity

MIRRORED = {"layers": False, "mirrored": True}


def halves(seed: int, mirrored: bool) -> tuple[ad.AnnData, ad.AnnData]:
    """A section of half of the cells, and the other cells; mirrored, both sides of the tissue look alike."""
    section = ipar.datasets.layered_tissue(n_slides=1, n_cells=1000, random_state=seed)
    rng = np.random.default_rng(seed)
    if mirrored:
        coords = section.obsm["spatial"]
        coords[:, 0] -= coords[:, 0].max() + 20.0
        other = rng.random(len(coords)) < 0.5
        coords[other, 0] *= -1
        section.obsm["spatial"] = coords
    teaching = rng.random(section.n_obs) < 0.5
    return section[teaching].copy(), section[~teaching].copy()


def run_one(tissue: str, seed: int) -> Record:
    """Certainty and whether reflection and rotation are right, within 45 degrees."""
    section, cells = halves(seed, MIRRORED[tissue])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ipar.tl.fit_ipalite(section, quality="fast", force=True, progress=False)
        truth = np.asarray(cells.obsm.pop("spatial"))
        ipar.tl.predict_coords(cells, model, reference="section", progress=False)
    frames = cells.uns["ipar"]["prediction"]["placement"]["frames"]
    right = oriented(cells.obsm["X_ipar_reference"], truth)
    found = {"certainty": float(frames["certainty"][0]), "orientation": float(frames["oriented"][0])}
    return {**found, "decided": bool(frames["decided"][0]), "right": right}


def oriented(coords: NDArray[np.float64], truth: NDArray[np.float64]) -> bool:
    """Whether coordinates ``(n, 2)`` have the orientation of the truth."""
    found = weighted_similarity(coords, truth, np.ones(len(truth)))
    return not found.mirrored and bool(found.rotation[0, 0] > np.cos(np.pi / 4))


def page(records: list[Record]) -> str:
    """A table of how often frames were right, wrong, or said to be undecided."""
    lines = [
        "# Frames",
        "",
        "How often a layout comes into the right frame of a reference section: rotation within 45 degrees, and reflection.",
        "Each trial is a simulated section of 1,000 cells. Half of them teach, and the others are placed. In the mirrored",
        "tissue, nobody can tell left from right; there, the right answer is *undecided*. Made with",
        "",
        "```bash",
        "python -m benchmarks.frames --report-only --markdown docs/frames.md",
        "```",
        "",
        "| tissue | trials | decided and right | decided and wrong | said to be undecided |",
        "|---|---|---|---|---|",
    ]
    for tissue in MIRRORED:
        own = [one for one in records if one["tissue"] == tissue]
        if own:
            right = sum(one["decided"] and one["right"] for one in own)
            wrong = sum(one["decided"] and not one["right"] for one in own)
            lines.append(f"| {tissue} | {len(own)} | {right} | {wrong} | {len(own) - right - wrong} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run, or continue, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="of each tissue")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the JSON lines")
    parser.add_argument("--report-only", action="store_true", help="write the page without measuring anything")
    parser.add_argument("--markdown", type=Path, default=None, help="page to write; printed, if not given")
    options = parser.parse_args()
    if not options.report_only:
        for tissue in MIRRORED:
            for seed in tqdm(range(options.trials), desc=tissue, unit="trial"):
                identity = {"tissue": tissue, "seed": seed}
                kept("frames", identity, partial(run_one, tissue, seed), options.out)
    text = page(read("frames", options.out))
    print(text) if options.markdown is None else options.markdown.write_text(text)


if __name__ == "__main__":
    main()
