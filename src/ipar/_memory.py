"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_SET_BY_DASK = "MALLOC_TRIM_THRESHOLD_"


@contextmanager
def kept_memory(most: int = 1 << 25, default: int = 1 << 17) -> Iterator[None]:
    """In a worker of Dask, keep freed memory for the time being, and give it back at the end.

    Dask has its workers give freed memory back at once (glibc). Networks free as much as they use in every layer, and take
    twice the time if the system has to clear all of it again.

    Parameters
    ----------
    most
        Blocks up to this size are kept; the largest that glibc allows.
    default
        Its default.
    """
    before = os.environ.get(_SET_BY_DASK, "")
    library = ctypes.CDLL(None) if sys.platform == "linux" and before.isdigit() else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, most)
    library.mallopt(_TRIM_THRESHOLD, 8 * most)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, default)
        library.mallopt(_TRIM_THRESHOLD, int(before))
        library.malloc_trim(0)
