"""Attention over lists of neighbours in one pass, for prediction on a CPU.

PyTorch gathers keys and values of all neighbours before it multiplies them. The kernel reads each where it lies, so that
its memory grows with cells alone. It is compiled at its first use and then kept on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar.nn.graph import CandidateGraph

Floats = NDArray[np.float32]

_ROWS_MIN = 256  # fewer cells are not worth a thread
_SIGNATURE = (
    "void(float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], boolean[:,::1], int64[:,::1],"
    " float32[:,:,::1], float32[:,::1], int64, int64)"
)
# sums in any order, but nothing that takes NaN and infinity for impossible
_FASTMATH = frozenset({"reassoc", "contract", "arcp", "nsz"})


def has_kernel(graph: CandidateGraph, *tensors: Tensor) -> bool:
    """Whether the kernel can be used: lists, no gradients, and all tensors of single precision on the CPU."""
    known = all(one.device.type == "cpu" and one.dtype == torch.float32 for one in tensors)
    return graph.index is not None and known and not torch.is_grad_enabled()


def fused_attention(
    query: Tensor, key: Tensor, bias: Tensor, graph: CandidateGraph, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Attended values and the largest weight of every row, without the weights.

    It runs on as many threads as PyTorch. They are its own and end with the call: numba's would limit where else it may be
    called, and could not be forked.

    Parameters
    ----------
    query, key
        Scaled queries and keys, float32 ``(B, H, n, d)``.
    bias
        Other terms of the logits, float32 ``(B, 1 or H, n, k)``.
    graph
        Candidates as lists.
    values
        Values, float32 ``(B, H, n, e)``.

    Returns
    -------
    Sums of weights times values, ``(B, H, n, e)``, and largest weights, ``(B, H, n)``. Both are 0 for a cell without
    candidates.
    """
    assert graph.index is not None
    batch, heads, n, _ = query.shape
    sums, largest = query.new_empty(batch, n, heads, values.shape[-1]), query.new_empty(batch, n, heads)
    # all heads of a cell lie together: one look-up per neighbour
    by_cell = [part.transpose(1, 2) for part in (query, key, values)]
    inputs = [*by_cell, bias, graph.mask, graph.index, sums, largest]
    sets = [[part[b].detach().contiguous().numpy() for part in inputs] for b in range(batch)]
    kernel, threads = _compiled(), torch.get_num_threads()
    step = max(_ROWS_MIN, -(-n // threads))
    tasks = [(arrays, start, min(start + step, n)) for arrays in sets for start in range(0, n, step)]
    if threads == 1 or len(tasks) == 1:
        for arrays, start, stop in tasks:
            kernel(*arrays, start, stop)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(kernel, *arrays, start, stop) for arrays, start, stop in tasks]:
                done.result()
    return sums.transpose(1, 2), largest.transpose(1, 2)


def attend_rows(
    query: Floats,
    key: Floats,
    values: Floats,
    bias: Floats,
    mask: NDArray[np.bool_],
    index: NDArray[np.int64],
    sums: Floats,
    largest: Floats,
    start: int,
    stop: int,
) -> None:
    """Fill rows from start to stop of sums ``(n, H, e)`` and largest weights ``(n, H)``, as plain loops to compile.

    Queries and keys are ``(n, H, d)``, values ``(n, H, e)``, the bias ``(1 or H, n, k)``.
    """
    n, heads, width = key.shape
    cells, logits = np.empty(index.shape[1], np.int64), np.empty((index.shape[1], heads), np.float32)
    peak, total = np.empty(heads, np.float32), np.empty(heads, np.float32)
    for i in range(start, stop):
        count = 0
        peak[:], total[:], sums[i], largest[i] = -np.inf, 0, 0, 0
        for slot in range(index.shape[1]):
            if not mask[i, slot]:
                continue
            j = index[i, slot]
            if j < 0 or j >= n:
                raise IndexError("A neighbour is not among the cells.")
            for h in range(heads):
                logit = bias[h % len(bias), i, slot]
                for c in range(width):
                    logit += query[i, h, c] * key[j, h, c]
                cells[count], logits[count, h], peak[h] = j, logit, max(peak[h], logit)
            count += 1
        for one in range(count):
            j = cells[one]
            for h in range(heads):
                weight = math.exp(logits[one, h] - peak[h])
                total[h] += weight
                for c in range(values.shape[2]):
                    sums[i, h, c] += weight * values[j, h, c]
        if count:
            for h in range(heads):
                largest[i, h] = 1 / total[h]
                for c in range(values.shape[2]):
                    sums[i, h, c] *= largest[i, h]


@cache
def _compiled() -> Callable[..., None]:
    """The loops as machine code that runs without the interpreter's lock."""
    import numba  # half a second, which only large sets of cells are worth

    def compiled(*, kept: bool) -> Callable[..., None]:
        decorate = numba.njit(_SIGNATURE, nogil=True, error_model="numpy", fastmath=set(_FASTMATH), cache=kept)
        found: Callable[..., None] = decorate(attend_rows)
        return found

    try:
        return compiled(kept=True)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return compiled(kept=False)
