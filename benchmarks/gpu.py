"""Time of a fit and a prediction on the CPU and on the GPU, and whether both give the same coordinates.

    python -m benchmarks.gpu --out benchmarks/results/gpu.json

Takes less than four minutes. Without a GPU, it says so and measures the CPU alone. On a GPU it also counts where the host waits
for it, by PyTorch's own warnings, and the memory taken.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import ipar
from ipar.model.network import NetworkLayout
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.training import IPALiteTraining, Run
from ipar.training.minisets import sample_minisets
from ipar.training.network import IPALiteTrainer

if TYPE_CHECKING:
    from anndata import AnnData

    from ipar.model import IPALite


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--cells", type=int, default=1000, help="cells of each of three training slides (default: 1000)"
    )
    parser.add_argument("--query", type=int, default=20_000, help="cells to place (default: 20000)")
    parser.add_argument("--quality", default="fast", help="quality of the fit (default: fast)")
    parser.add_argument("--out", default="gpu.json", help="file to write (default: gpu.json)")
    options = parser.parse_args(arguments)
    found = measure(options.cells, options.query, options.quality)
    Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    for name, value in found.items():
        print(f"{name}: {value}")
    return found


def measure(n_cells: int, n_query: int, quality: Any) -> dict[str, Any]:
    """All figures by name: seconds, synchronisations, GiB, and differences in RMS radii."""
    train = ipar.datasets.layered_tissue(n_slides=3, n_cells=n_cells, n_genes=500)
    query = ipar.datasets.layered_tissue(n_slides=1, n_cells=n_query, n_genes=500, random_state=1)
    gpu = torch.cuda.is_available()
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name() if gpu else "none: the CPU alone was measured"}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "cells": n_cells, "query": n_query}
    coords = {}
    model: IPALite | None = None
    for device in ("cpu", "cuda") if gpu else ("cpu",):
        fit = {"quality": quality, "device": device, "progress": False, "force": True}
        seconds, fitted = _timed(lambda fit=fit: ipar.tl.fit_ipalite(train.copy(), "slide", **fit))
        model = model or fitted  # both devices place cells by one model
        found[f"fit_seconds_{device}"] = seconds
        for name, sharpen in (("layout", False), ("sharpened", True)):
            call = (query, model, device, sharpen)
            seconds, coords[device, name] = _timed(lambda call=call: _placed(*call))
            found[f"predict_seconds_{name}_{device}"] = seconds
    if gpu:
        for name in ("layout", "sharpened"):
            apart = np.linalg.norm(coords["cpu", name] - coords["cuda", name], axis=1)
            found[f"largest_difference_{name}"] = float(apart.max())
            found[f"median_difference_{name}"] = float(np.median(apart))
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        found |= _waits()
    return found


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return round(time.perf_counter() - start, 2), found


def _placed(query: AnnData, model: IPALite, device: str, sharpen: bool) -> Any:
    cells = query.copy()
    ipar.tl.predict_coords(cells, model, sharpen=sharpen, device=device, progress=False)
    return cells.obsm["X_ipar"]


def _waits() -> dict[str, float]:
    """How often the host waits for the GPU in a training step, and in a batch of consensus subsets."""
    rng = np.random.default_rng(0)
    coords = torch.from_numpy(rng.normal(size=(1000, 2)).astype(np.float32))
    h = torch.cat([coords, torch.from_numpy(rng.normal(size=(1000, 30)).astype(np.float32))], 1)
    net, gate = IPALiteNet(IPALiteConfig(d_input=32)).cuda(), EdgeGate(32).cuda()
    how = IPALiteTraining(gate_steps=0, max_epochs=1, batch_size=2)
    run = Run(device=torch.device("cuda"))
    sets = sample_minisets([h], [coords], 32)
    step = _warned(lambda: IPALiteTrainer(net, gate, how, run).fit(sets)) / 16
    stage = NetworkLayout(net, gate)
    few, many = (_warned(lambda n=n: stage._lay_out(h[:320].expand(n, -1, -1))) for n in (2, 64))
    return {"waits_per_training_step": step, "waits_per_consensus_batch": max(few, many)}


def _warned(call: Callable[[], object]) -> int:
    """Number of warnings of an operation that waits."""
    call()  # what is set up at a first call does not count
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(one.message) for one in told)


if __name__ == "__main__":
    main()
