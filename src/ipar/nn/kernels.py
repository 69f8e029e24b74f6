"""Attention over lists of neighbours in one pass, for prediction on a CPU.

PyTorch gathers keys and values of all neighbours before it multiplies them. The kernel reads each where it lies, so that
its memory grows with cells alone. It is loaded at its first use.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ipar.nn.graph import CandidateGraph

_ROWS_MIN = 256  # fewer cells are not worth a thread


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
    from ipar.nn.attention_loops import attend_rows

    assert graph.index is not None
    batch, heads, n, _ = query.shape
    sums, largest = query.new_empty(batch, n, heads, values.shape[-1]), query.new_empty(batch, n, heads)
    # all heads of a cell lie together: one look-up per neighbour
    by_cell = [part.transpose(1, 2) for part in (query, key, values)]
    inputs = [*by_cell, bias, graph.mask, graph.index, sums, largest]
    sets = [[part[b].detach().contiguous().numpy() for part in inputs] for b in range(batch)]
    threads = torch.get_num_threads()
    step = max(_ROWS_MIN, -(-n // threads))
    tasks = [(arrays, start, min(start + step, n)) for arrays in sets for start in range(0, n, step)]
    if threads == 1 or len(tasks) == 1:
        for arrays, start, stop in tasks:
            attend_rows(*arrays, start, stop)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(attend_rows, *arrays, start, stop) for arrays, start, stop in tasks]:
                done.result()
    return sums.transpose(1, 2), largest.transpose(1, 2)
