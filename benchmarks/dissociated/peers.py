"""Published peers on the tasks: each from its package, in an environment of its own."""

from __future__ import annotations

import argparse
from typing import Any

import anndata as ad
import numpy as np

from benchmarks.dissociated.scores import Floats, Placed, row_certainty
from benchmarks.dissociated.tasks import Dissociated, places
from benchmarks.methods.arrays import dense, unit_radius
from benchmarks.peers.exchange import Exchange
from benchmarks.peers.run import environment, served

PEERS = ("tangram", "moscot", "novosparc", "celery")
MAPPING = ("tangram", "moscot", "novosparc")
"""Peers that give a mapping of cells onto spots."""
MOST_CELLS = dict.fromkeys(MAPPING, 5000)
"""Cells that a peer gets at most, to bound its time and memory on one core."""

_MOST_GENES = 2000


def place_with_peer(peer: str, given: Dissociated, seed: int, options: argparse.Namespace) -> Placed:
    """Places in the section's frame; the confidence is the certainty of a cell's row of the mapping."""
    found = run_peer(peer, given.section, given.cells, seed, options)
    frame = places(given.section)
    coords, plan = in_frame(found["coords"], frame), found.get("plan")
    if plan is None:
        return Placed(coords, extra=cost(found))
    return Placed(coords, row_certainty(plan), frame[plan.argmax(axis=1)], cost(found))


def impute_with_peer(
    peer: str, section: ad.AnnData, cells: ad.AnnData, values: Floats, seed: int, options: argparse.Namespace
) -> tuple[Floats, dict[str, Any]]:
    """Values of cells, summed over the spots as the mapping deals the cells out; ``(n_spots, n_values)``."""
    found = run_peer(peer, section, cells, seed, options)
    summed: Floats = found["plan"].astype(np.float64).T @ values
    return summed, cost(found)


def run_peer(
    peer: str, section: ad.AnnData, cells: ad.AnnData, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What a peer gives back."""
    python = environment(peer, options.environments)
    return served(peer, exchanged(section, cells), seed, python, options.threads)


def exchanged(section: ad.AnnData, cells: ad.AnnData) -> Exchange:
    """What a peer gets: the genes that vary most in the section, at most 2,000, that vary in the cells too."""
    x, query = dense(section), dense(cells)
    spread = np.where(query.std(axis=0) > 0, x.std(axis=0), 0.0)
    order = np.argsort(-spread, kind="stable")[:_MOST_GENES]
    genes = np.sort(order[spread[order] > 0])
    names = np.full(len(x), "section")
    return Exchange(x=x[:, genes], coords=unit_radius(places(section)), slides=names, query=query[:, genes])


def in_frame(coords: Floats, frame: Floats) -> Floats:
    """Places at unit RMS radius, brought back to the units of a section."""
    centre = frame.mean(axis=0)
    radius = np.sqrt(np.square(frame - centre).sum(axis=1).mean())
    back: Floats = centre + coords * radius
    return back


def cost(found: dict[str, Any]) -> dict[str, Any]:
    """Time and memory of a peer."""
    return {name: float(found[name]) for name in ("seconds", "peak_gib")}
