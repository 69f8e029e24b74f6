"""The settings of the user's process: set aside for a call, and afterwards as they were."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits


class _DefaultDtype:
    """PyTorch's default dtype is one for all threads: the first call sets it aside, the last one brings it back."""

    def __init__(self) -> None:
        self._lock, self._calls, self._before = threading.Lock(), 0, None

    @contextmanager
    def single(self, torch: Any) -> Iterator[None]:
        """Single precision for the time being."""
        with self._lock:
            if not self._calls:
                self._before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls:
                    torch.set_default_dtype(self._before)


_default_dtype = _DefaultDtype()


class _Forks:
    """Knows whether this process was forked from one that has worked: the threads of OpenMP's pools did not come along."""

    def __init__(self) -> None:
        self._worked_in: int | None = None

    @property
    def forked(self) -> bool:
        """Whether OpenMP must not start threads here: the first that waits for them would wait for ever."""
        return self._worked_in not in (None, os.getpid())

    def note(self) -> None:
        """Remember that this process works."""
        if self._worked_in is None:
            self._worked_in = os.getpid()


forks = _Forks()


@contextmanager
def own_settings() -> Iterator[None]:
    """The settings that ipar was written for, of NumPy and, where it is loaded, of PyTorch.

    Gradients are on, inference mode and autocast off, tensors of single precision on the CPU, and floating-point errors
    are not raised. Other settings stay as the user chose them: threads, deterministic algorithms, and random states. Only
    a process that was forked from one that has worked has one thread.
    """
    with ExitStack() as stack:
        if forks.forked:
            stack.enter_context(threadpool_limits(limits=1))
        forks.note()
        defaults: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
        raised = {kind: defaults[kind] for kind, how in np.geterr().items() if how not in ("ignore", "warn")}
        stack.enter_context(np.errstate(**raised))
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_default_device"):  # not while it is imported by another thread
            stack.enter_context(_own_torch(torch))
        yield


@contextmanager
def silent() -> Iterator[None]:
    """Neither warnings nor messages: the first of several processes has them."""
    logger = logging.getLogger("ipar")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


@contextmanager
def _own_torch(torch: Any) -> Iterator[None]:
    threads = torch.get_num_threads()
    if forks.forked:
        torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_default_dtype.single(torch))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                # without the cache, which would keep weights of steps before as long as the outer context lasts
                stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:  # numba gives PyTorch as many as it starts
                torch.set_num_threads(threads)
