"""Energies of held-out minisets under a trained network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import CandidateGraph, graph_of_mask
from ipar.training.losses import e_geo
from ipar.training.minisets import Miniset, MinisetBatch, collate


@torch.no_grad()
def validate(
    net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset], *, beta: float | None = None
) -> tuple[float, float]:
    """E_geo of held-out minisets: on target edges with gate scores zero, and on gated candidates."""
    net.eval()
    energies = []
    for batch in in_order(sets, next(net.parameters()).device):
        graph = graph_of_mask(batch.candidates)
        scores = dense_gate(gate, batch.h, graph)
        on_target = layout_energy(net, batch, graph_of_mask(batch.adjacency))
        energies.append([on_target, layout_energy(net, batch, graph, scores, beta=beta)])
    target, candidates = np.mean(energies, axis=0)
    return float(target), float(candidates)


@torch.no_grad()
def sweep_beta(
    net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset], betas: Sequence[float], *, progress: bool = False
) -> list[float]:
    """E_geo of held-out minisets on gated candidates for every weight β of the gate."""
    net.eval()
    energies = []
    batches = in_order(sets, next(net.parameters()).device)
    for batch in tqdm(batches, desc="beta", total=len(sets), unit="miniset", disable=not progress):
        graph = graph_of_mask(batch.candidates)
        scores = dense_gate(gate, batch.h, graph)
        energies.append([layout_energy(net, batch, graph, scores, beta=beta) for beta in betas])
    return [float(value) for value in np.mean(energies, axis=0)]


def layout_energy(
    net: IPALiteNet,
    batch: MinisetBatch,
    graph: Tensor | CandidateGraph,
    scores: Tensor | None = None,
    *,
    beta: float | None = None,
) -> float:
    """E_geo of the layout that a network gives a batch on any graph; without scores the gate is off."""
    return e_geo(net(batch.h, graph, scores, mask=batch.mask, beta=beta).coords, batch).item()


def in_order(sets: Sequence[Miniset], device: torch.device) -> Iterator[MinisetBatch]:
    """One set at a time: without gradients nothing is gained by padding."""
    return (collate([one], device) for one in sets)
