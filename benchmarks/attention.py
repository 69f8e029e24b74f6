"""Time and memory of attention over lists of neighbours: ipar's kernel, ipar in PyTorch, and PyTorch Geometric.

    python -m benchmarks.attention --markdown docs/attention.md

Every figure is of a process of its own and kept as a line of ``attention.jsonl``. PyTorch Geometric
(``pip install torch_geometric``) is no dependency of ipar; its rows say if it is missing. A process may hold 12 GiB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tasks.options import parser_of, write_page
from benchmarks.tasks.processes import measured
from benchmarks.tasks.records import Record, keep, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
KEY = ("n_cells", "n_threads", "method")
SIZES, K, HEADS, WIDTH = (10_000, 100_000), 80, 4, 32
LIMIT_GIB, REPEATS, CHECKED = 12, 3, 200
MISSING, NO_MEMORY = "not installed", f"out of memory at {LIMIT_GIB} GiB"
TITLES = {
    "kernel": "ipar, kernel",
    "lists": "ipar, PyTorch",
    "geometric": "`TransformerConv` of PyTorch Geometric",
}
Weights = tuple["Tensor", "Tensor", "Tensor"]
Layer = Callable[["Tensor"], "Tensor"]
_PAGE = """# Attention over many cells

To predict, ipar computes attention over lists of neighbours in one pass, by a kernel that numba compiles. It gathers no keys
or values and keeps no weights. This page compares it with the same layer in PyTorch, which ipar trains with, and with
`torch_geometric.nn.TransformerConv`. `python -m benchmarks.attention` repeats it.

The layer makes queries, keys and values of {width} features, attends with {heads} heads of {head} over the {k} nearest
neighbours of every cell, and has no other parts. Cells are random points in three dimensions. All three have the same
weights and run forward only, in single precision. Every row is a process of its own that may hold {limit} GiB. PyTorch
Geometric runs as `pip install torch_geometric` gives it, without extensions. The layers of ipar also add a bias to each logit.

{table}

*Seconds* are the least of {repeats} passes. *Memory* is the peak during the first pass above what the process held before it,
with its input and the graph; queries, keys, values and the result are a part of it. *Error* is the largest difference from
double precision on {checked} cells. A first pass on {warm} cells, which loads or compiles what is needed, is not counted. Other
work on the machine makes seconds longer than CPU seconds.

{reading}
"""
_WARM = 1_000


def kernel_layer(index: Tensor, weights: Weights, *, need_weights: bool = False) -> Layer:
    """The layer as ipar has it; with attention weights asked for, it is that of the training."""
    import torch

    from ipar.nn.block import attend, split_heads
    from ipar.nn.graph import graph_of

    graph = graph_of(index[None], form="edges")
    bias = torch.zeros(1, 1, *index.shape)

    def layer(x: Tensor) -> Tensor:
        query, key, value = (split_heads((x @ weight.T)[None], HEADS) for weight in weights)
        found, _ = attend(query / math.sqrt(WIDTH), key, bias, graph, value, need_weights=need_weights)
        return found.transpose(1, 2).flatten(2)[0]

    return layer


def geometric_layer(index: Tensor, weights: Weights) -> Layer:
    """The layer of PyTorch Geometric with the same weights."""
    import torch
    from torch_geometric.nn import TransformerConv

    layer = TransformerConv(HEADS * WIDTH, WIDTH, HEADS, bias=False, root_weight=False).eval()
    for linear, weight in zip((layer.lin_query, layer.lin_key, layer.lin_value), weights, strict=True):
        linear.weight.data.copy_(weight)
    n, k = index.shape
    edges = torch.stack([index.flatten(), torch.arange(n).repeat_interleave(k)])  # from neighbour to cell
    return lambda x: layer(x, edges)


def layer_of(method: str, index: Tensor, weights: Weights) -> Layer:
    """The layer of a method over neighbours ``(n, k)``."""
    if method == "geometric":
        return geometric_layer(index, weights)
    return kernel_layer(index, weights, need_weights=method == "lists")


def problem(n_cells: int) -> tuple[Tensor, Tensor, Weights]:
    """Features ``(n, H·d)``, neighbours ``(n, k)`` and weights of queries, keys and values."""
    import numpy as np
    import torch
    from scipy.spatial import cKDTree

    rng, features = np.random.default_rng(0), HEADS * WIDTH
    points = rng.random((n_cells, 3))
    index = torch.from_numpy(cKDTree(points).query(points, min(K, n_cells - 1) + 1)[1][:, 1:].astype(np.int64))
    x = torch.from_numpy(rng.standard_normal((n_cells, features), dtype=np.float32))
    query, key, value = torch.from_numpy(rng.standard_normal((3, features, features), dtype=np.float32) / features**0.5)
    return x, index.contiguous(), (query, key, value)


def error_of(found: Tensor, x: Tensor, index: Tensor, weights: Weights) -> float:
    """Largest difference from double precision, on the first cells."""
    import numpy as np
    from scipy.special import softmax

    features = x.double().numpy()

    def heads(weight: Tensor, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        return (features[cells] @ weight.double().numpy().T).reshape(*cells.shape, HEADS, WIDTH)

    cells = np.arange(min(CHECKED, len(features)))
    near = index[: len(cells)].numpy()
    query, key, value = (heads(*parts) for parts in zip(weights, (cells, near, near), strict=True))
    attention = softmax(np.einsum("ihd,ijhd->ijh", query, key) / math.sqrt(WIDTH), axis=1)
    expected = np.einsum("ijh,ijhd->ihd", attention, value).reshape(len(cells), -1)
    return float(np.abs(found[: len(cells)].numpy() - expected).max())


def peak_gib(*, reset: bool = False) -> float:
    """Largest memory held since the last reset, where the system can tell; else since the start."""
    status, references = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        if reset:
            references.write_text("5")
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 2**20
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run_one(method: str, n_cells: int, n_threads: int) -> Record:
    """Time and memory of one layer in this process, or what prevented it."""
    import torch

    torch.set_num_threads(n_threads)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_GIB * 2**30, resource.RLIM_INFINITY))
    try:
        with torch.no_grad():
            x, index, weights = problem(_WARM)
            layer_of(method, index, weights)(x)
            return figures_of(method, *problem(n_cells))
    except ModuleNotFoundError:
        return {"failed": MISSING}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return {"failed": NO_MEMORY}


def figures_of(method: str, x: Tensor, index: Tensor, weights: Weights) -> Record:
    """Figures of some passes: least times, the peak of the first, and the error."""
    layer, cpu, wall = layer_of(method, index, weights), [], []
    before, peak = peak_gib(reset=True), 0.0
    for _ in range(REPEATS):
        start, used = time.perf_counter(), time.process_time()
        found = layer(x)
        cpu.append(time.process_time() - used)
        wall.append(time.perf_counter() - start)
        peak = peak or peak_gib()
    figures = {"cpu_seconds": min(cpu), "seconds": min(wall), "extra_gib": peak - before}
    error = error_of(found, x, index, weights)
    return {name: round(value, 4) for name, value in figures.items()} | {"error": float(f"{error:.1e}")}


def measure(method: str, n_cells: int, n_threads: int) -> Record:
    """Run one layer in a fresh process."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    arguments = ["benchmarks.attention", "--one", method, str(n_cells), str(n_threads)]
    return measured(f"{method} on {n_cells} cells", arguments, dict.fromkeys(names, str(n_threads)))


def run_all(sizes: Sequence[int], threads: Sequence[int], folder: Path, *, fresh: bool = False) -> None:
    """Measure what has not been measured yet, and what was not installed."""
    for run in product(sizes, threads, TITLES):
        known = stored(folder).get(run, {"failed": MISSING})
        if fresh or known.get("failed") == MISSING:
            n_cells, n_threads, method = run
            keep("attention", dict(zip(KEY, run, strict=True)) | measure(method, n_cells, n_threads), folder, key=KEY)


def stored(folder: Path) -> dict[tuple[int, int, str], Record]:
    """All records by cells, threads and method."""
    found = {(one["n_cells"], one["n_threads"], one["method"]): one for one in read("attention", folder)}
    return {run: found[run] for run in sorted(found, key=lambda run: (*run[:2], list(TITLES).index(run[2])))}


def table(results: Mapping[tuple[int, int, str], Record]) -> str:
    """A row per run."""
    lines = [
        "| cells | threads | layer | CPU seconds | seconds | memory, MiB | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for (n_cells, n_threads, method), one in results.items():
        figures = f"{one['failed']} | | |" if "failed" in one else _figures(one)
        lines.append(f"| {n_cells:,} | {n_threads} | {TITLES[method]} | {figures} |")
    return "\n".join(lines)


def _figures(one: Record) -> str:
    seconds = " | ".join(
        f"{value:.3f}" if value < 1 else f"{value:.1f}" for value in (one["cpu_seconds"], one["seconds"])
    )
    return f"{seconds} | {1024 * one['extra_gib']:,.0f} | {one['error']:.0e}"


def reading(results: Mapping[tuple[int, int, str], Record]) -> str:
    """The kernel beside the others, wherever both were measured."""
    sentences = []
    for (n_cells, n_threads, method), other in results.items():
        own = results.get((n_cells, n_threads, "kernel"), {"failed": MISSING})
        if method != "kernel" and n_threads == 1 and "failed" not in own | other:
            slower, larger = (other[name] / max(own[name], 1e-4) for name in ("cpu_seconds", "extra_gib"))
            sentences.append(
                f"On {n_cells:,} cells and one thread, {TITLES[method]} takes {slower:.1f} times the CPU time of the kernel"
                f" and {larger:.0f} times its memory."
            )
    return "\n".join(sentences)


def markdown(results: Mapping[tuple[int, int, str], Record]) -> str:
    """The page."""
    sizes = {"width": HEADS * WIDTH, "heads": HEADS, "head": WIDTH, "k": K, "repeats": REPEATS}
    return (
        _PAGE.format(
            **sizes, checked=CHECKED, limit=LIMIT_GIB, warm=f"{_WARM:,}", table=table(results), reading=reading(results)
        ).rstrip()
        + "\n"
    )


def main() -> None:
    """Measure what is not yet measured, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of cells")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--one", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        method, n_cells, n_threads = options.one
        print("RESULT " + json.dumps(run_one(method, int(n_cells), int(n_threads))))
        return
    if not options.report_only:
        run_all(options.sizes, options.threads, options.out, fresh=options.fresh)
    write_page(markdown(stored(options.out)), options.markdown)


if __name__ == "__main__":
    main()
