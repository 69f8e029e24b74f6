"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_SET_BY_DASK = "MALLOC_TRIM_THRESHOLD_"


def keep_memory(most: int = 1 << 25) -> None:
    """In a worker of Dask, keep freed memory for what comes next, in blocks up to the largest size that glibc allows.

    Dask has its workers give freed memory back at once. Networks free as much as they use in every layer, and take twice the
    time if the system has to clear all of it again.
    """
    library = _library_of_worker()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, most)
        library.mallopt(_TRIM_THRESHOLD, 8 * most)


def give_memory_back(default: int = 1 << 17) -> None:
    """In a worker of Dask, give freed memory back at once, as before :func:`keep_memory`."""
    library = _library_of_worker()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, default)
        library.mallopt(_TRIM_THRESHOLD, int(os.environ[_SET_BY_DASK]))
        library.malloc_trim(0)


def _library_of_worker() -> Any:
    """The C library, if it is glibc and Dask has told it what to do with memory."""
    if sys.platform != "linux" or not os.environ.get(_SET_BY_DASK, "").isdigit():
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
