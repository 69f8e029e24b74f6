"""The loops of attention over lists, compiled when this module is imported.

The machine code is kept on disk, so that seconds of compiling are spent once. Importing numba alone takes half a second:
only what needs the loops imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_SIGNATURE = (
    "void(float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], boolean[:,::1], int64[:,::1],"
    " float32[:,:,::1], float32[:,::1], int64, int64)"
)
# sums in any order, but nothing that takes NaN and infinity for impossible
_FASTMATH = ("reassoc", "contract", "arcp", "nsz")
_LINE = 16  # floats that the processor loads together
_place_of: Any = cgutils.get_item_pointer


def _prefetch(_: Any, array: Any, i: Any, h: Any, c: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask the processor for an entry of an array without waiting for it; a wrong place does no harm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, *numbers = signature.args
        found = context.make_array(kind)(context, builder, arguments[0])
        places = [context.cast(builder, *one, types.intp) for one in zip(arguments[1:], numbers, strict=True)]
        place = _place_of(context, builder, kind, found, places)
        place, number = builder.bitcast(place, cgutils.voidptr_t), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        options = [number(0), number(3), number(1)]  # to read, into all caches, data
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [place.type], function), [place, *options])
        return context.get_dummy_value()

    return types.void(array, i, h, c), generate


prefetch: Any = intrinsic(_prefetch)


def loops(
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
    """Fill rows from start to stop of sums ``(n, H, e)`` and largest weights ``(n, H)``.

    Queries and keys are ``(n, H, d)``, values ``(n, H, e)``, the bias ``(1 or H, n, k)``.
    """
    n, heads, width = key.shape
    cells, logits = np.empty(index.shape[1], np.int64), np.empty((index.shape[1], heads), np.float32)
    peak, total = np.empty(heads, np.float32), np.empty(heads, np.float32)
    for i in range(start, stop):
        count = 0
        peak[:], total[:], sums[i], largest[i] = -np.inf, 0, 0, 0
        for slot in range(index.shape[1]):
            # neighbours lie anywhere in memory: those of the next cell are on their way while this one is worked on
            later = index[min(i + 1, stop - 1), slot]
            for h in range(heads):
                for c in range(0, width, _LINE):
                    prefetch(key, later, h, c)
                for c in range(0, values.shape[2], _LINE):
                    prefetch(values, later, h, c)
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


def _compiled(*, kept: bool) -> Callable[..., None]:
    """The loops as machine code that runs without the interpreter's lock."""
    decorate = numba.njit(_SIGNATURE, nogil=True, error_model="numpy", fastmath=set(_FASTMATH), cache=kept)
    found: Callable[..., None] = decorate(loops)
    return found


try:
    attend_rows = _compiled(kept=True)
except RuntimeError:  # neither the package's folder nor the user's can be written
    attend_rows = _compiled(kept=False)
