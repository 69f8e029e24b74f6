"""Experiments on a trained network: where its energy comes from, and whether it reads what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ipar.graph.candidates import candidate_mask
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.training.losses import e_geo
from ipar.training.minisets import Miniset, MinisetBatch
from ipar.training.validation import in_order, layout_energy

GAP = ("first guess", "target edges", "true candidates", "wrong candidates", "all candidates", "gated candidates")
CONTROLS = ("intact", "shuffled", "other miniset", "gaussian", "random graph")


@torch.no_grad()
def decompose_gap(
    net: IPALiteNet,
    gate: EdgeGate,
    sets: Sequence[Miniset],
    *,
    beta: float | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """E_geo of minisets on graphs between the true one and the one that inference has.

    Returns
    -------
    DataFrame
        ``condition, miniset, e_geo``. Conditions: ``"first guess"``, before any graph is used; ``"target edges"``;
        ``"true candidates"``, the candidates that are true neighbours; ``"wrong candidates"``, those that are not;
        ``"all candidates"``, these four without gate; ``"gated candidates"``, as at inference.
    """
    net.eval()
    rows = []
    for number, batch in enumerate(_with_bar(net, sets, "gap", progress)):
        true, wrong = batch.candidates & batch.adjacency, batch.candidates & ~batch.adjacency
        graphs = (batch.adjacency, true, wrong, batch.candidates)
        guess = net(batch.h, batch.candidates, mask=batch.mask).layouts[0]
        energies = [e_geo(guess, batch).item(), *(layout_energy(net, batch, graph) for graph in graphs)]
        scores = dense_gate(gate, batch.h, batch.candidates)
        energies.append(layout_energy(net, batch, batch.candidates, scores, beta=beta))
        rows += [(name, number, energy) for name, energy in zip(GAP, energies, strict=True)]
    return pd.DataFrame(rows, columns=["condition", "miniset", "e_geo"])


@torch.no_grad()
def shuffle_controls(
    net: IPALiteNet,
    gate: EdgeGate,
    sets: Sequence[Miniset],
    *,
    n_neighbors: int,
    beta: float | None = None,
    random_state: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """E_geo of minisets, two at least, whose embeddings or graph have been spoilt.

    Returns
    -------
    DataFrame
        ``condition, miniset, e_geo``. Conditions: ``"intact"``; ``"shuffled"``, embeddings permuted within the miniset;
        ``"other miniset"``, those of the next one; ``"gaussian"``, noise with the mean and deviation of every feature;
        ``"random graph"``, intact embeddings, as many candidates per cell but drawn at random. Candidates and gate scores
        always follow from what the network is given, targets stay.

    Raises
    ------
    ValueError
        If there is one miniset only.
    """
    if len(sets) < 2:
        msg = f"n_minisets must be at least 2 for the control from another miniset, found {len(sets)}."
        raise ValueError(msg)
    net.eval()
    generator = torch.Generator().manual_seed(random_state)
    rows = []
    for number, batch in enumerate(_with_bar(net, sets, "controls", progress)):
        other = sets[(number + 1) % len(sets)].h
        for name, spoilt in _spoilt(batch, other, n_neighbors, generator):
            scores = dense_gate(gate, spoilt.h, spoilt.candidates)
            rows.append((name, number, layout_energy(net, spoilt, spoilt.candidates, scores, beta=beta)))
    return pd.DataFrame(rows, columns=["condition", "miniset", "e_geo"])


def _with_bar(net: IPALiteNet, sets: Sequence[Miniset], name: str, progress: bool) -> Iterable[MinisetBatch]:
    batches = in_order(sets, next(net.parameters()).device)
    bar: Iterable[MinisetBatch] = tqdm(batches, desc=name, total=len(sets), unit="miniset", disable=not progress)
    return bar


def _spoilt(
    batch: MinisetBatch, other: Tensor, n_neighbors: int, generator: torch.Generator
) -> Iterator[tuple[str, MinisetBatch]]:
    h, device = batch.h[0].cpu(), batch.h.device
    n = len(h)
    embeddings: dict[str, Callable[[], Tensor]] = {
        "shuffled": lambda: h[torch.randperm(n, generator=generator)],
        "other miniset": lambda: _rows(other, n, generator),
        "gaussian": lambda: h.mean(0) + h.std(0) * torch.randn(h.shape, generator=generator),
    }
    yield "intact", batch
    for name, make in embeddings.items():
        given = make()[None].to(device)
        yield name, replace(batch, h=given, candidates=candidate_mask(given, n_neighbors))
    yield (
        "random graph",
        replace(batch, candidates=_random_graph(batch.candidates[0].cpu(), generator)[None].to(device)),
    )


def _rows(h: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` random rows; each once, where there are enough."""
    order = torch.randperm(len(h), generator=generator).numpy()
    return h[torch.from_numpy(np.resize(order, n))]


def _random_graph(candidates: Tensor, generator: torch.Generator) -> Tensor:
    """Random candidates, as many of every cell as it has, never itself."""
    draw = torch.rand(candidates.shape, generator=generator).fill_diagonal_(2.0)
    place = draw.argsort(-1).argsort(-1)
    return place < candidates.sum(-1, keepdim=True)
