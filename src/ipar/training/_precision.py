"""Precision of heavy products, and the memory that training leaves behind."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import torch


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:  # not Linux
        flags = ""
    return frozenset(flags.split())


def fast_dtype(device: torch.device) -> torch.dtype:
    """Precision of the gate's edge work in training: bfloat16 where the hardware multiplies it, else float32.

    The gate is most of the work of a step; in bfloat16 it takes a third of the time on such a CPU.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = device.type == "cpu" and "avx512_bf16" in _cpu_flags()
    return torch.bfloat16 if native else torch.float32


def release_memory() -> None:
    """Give freed memory back to the system where the C library holds on to it (glibc).

    Batches differ in size, so that freed blocks rarely fit the next one: without this, training grows to several times
    of what it uses.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
