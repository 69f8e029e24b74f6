"""Where a fit computes: on one device, or on several through Lightning Fabric."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import torch

from ipar._descent import Precision
from ipar._options import Count
from ipar._ranks import Ranks
from ipar._run import Device, Run, get_device, known_device
from ipar._seeds import as_seed
from ipar._settings import own_settings, silent
from ipar._written import Answer

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

T = TypeVar("T")
Fit: TypeAlias = "Callable[[AnnData, Run], T]"

Accelerator: TypeAlias = Literal["auto", "cpu", "gpu", "cuda", "mps"]
Devices: TypeAlias = Count | Literal["auto"]
Strategy: TypeAlias = Literal["auto", "ddp", "ddp_notebook"]


@dataclass(frozen=True)
class Engine:
    """Which devices a fit computes on, and how its processes are started.

    Networks are small: each process keeps them whole, reads its part of every batch, and sums the gradients
    (:class:`~ipar._ranks.Ranks`). Fabric starts the processes and carries the sums. Its wrapper of modules would do neither
    of parts of a network nor of losses that are no means over examples.

    Attributes
    ----------
    device, accelerator
        A device, or a kind of device.
    devices
        How many on this machine; ``"auto"`` for all GPUs, or all processes of ``torchrun``.
    strategy
        ``"ddp"`` runs the script once per device, ``"ddp_notebook"`` forks; ``"auto"`` is the one that works.
    precision
        Of the heaviest products.
    """

    device: Device = "auto"
    accelerator: Accelerator = "auto"
    devices: Devices = 1
    strategy: Strategy = "auto"
    precision: Precision = "auto"

    def run(self, adata: AnnData, fit: Fit[T], random_state: int | np.random.Generator | None, progress: bool) -> T:
        """Call a fit, on every device, with what it shall know; all give the same result.

        Raises
        ------
        ImportError
            If there is no Lightning Fabric, which more than one device needs.
        RuntimeError
            If processes shall be forked from one that uses CUDA.
        ValueError
            If options contradict each other, or ask for what is not there.
        """
        kind, devices = self._kind(), self._count()
        run = Run(as_seed(random_state), progress=progress, precision=self.precision)
        if devices == 1 and self.strategy == "auto" and not _started_outside():
            return fit(adata, replace(run, device=get_device(kind if self.device == "auto" else self.device)))
        fabric_of, strategy = _fabric(), self._strategy(kind)
        fabric = fabric_of(accelerator=kind, devices=devices, num_nodes=_machines(), strategy=strategy, precision=None)
        with _workers_end(fabric):
            if strategy == "ddp_notebook":
                # not by Fabric's queue, which nobody empties before the processes have ended; the file has no name
                with tempfile.TemporaryFile() as file:
                    fabric.launch(_forked, adata, fit, run, file)
                    return Answer[T].read(file).given_to(adata)
            if os.environ.get("LT_CLI_USED") == "1":  # `fabric run` has launched it
                return _as_rank(fabric, adata, fit, run)
            found: T = fabric.launch(_as_rank, adata, fit, run)
            return found

    def _kind(self) -> str:
        """Kind of the devices."""
        named = None if self.device == "auto" else known_device(self.device)
        asked = {"gpu": "cuda"}.get(self.accelerator, self.accelerator)
        if named is not None and asked not in ("auto", named.type):
            msg = f"device={str(self.device)!r} and accelerator={self.accelerator!r} contradict each other: give one of them."
            raise ValueError(msg)
        if named is not None and named.index is not None and self.devices != 1:
            msg = f"device={str(self.device)!r} is one device, and devices={self.devices!r}: give accelerator= instead."
            raise ValueError(msg)
        if named is not None:
            return named.type
        # counting devices does not touch CUDA, which could not be used in forked processes afterwards
        return asked if asked != "auto" else "cuda" if torch.cuda.device_count() else "cpu"

    def _count(self) -> int:
        """How many devices on this machine."""
        there, kind = _there(), self._kind()
        if _started_outside() and self.devices != 1:
            started = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LT_DEVICES", 1)))
            if self.devices not in ("auto", started):
                msg = f"devices={self.devices}, but {started} processes were started here: give devices='auto'."
                raise ValueError(msg)
            return started
        count = (there["cuda"] if kind == "cuda" else 1) if self.devices == "auto" else int(self.devices)
        if self.devices != 1 and count > there.get(kind, 1):
            msg = (
                f"devices={self.devices} asks for more than there are: this machine has {there['cuda']} CUDA devices and "
                f"{there['cpu']} CPU cores. Ask for fewer, or choose with accelerator='cpu' or 'cuda'."
            )
            raise ValueError(msg)
        return count

    def _strategy(self, kind: str) -> str:
        """How processes are started."""
        interactive = hasattr(sys, "ps1") and not _started_outside()
        strategy = ("ddp_notebook" if interactive else "ddp") if self.strategy == "auto" else self.strategy
        script = getattr(sys.modules["__main__"], "__file__", None)
        if strategy == "ddp" and not _started_outside() and (interactive or script is None):
            msg = (
                "strategy='ddp' runs the script once per device, and there is none here: use strategy='ddp_notebook', or "
                "fit in a script."
            )
            raise ValueError(msg)
        if strategy == "ddp_notebook" and kind == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            msg = (
                "CUDA is in use in this process, so that forked processes could not use it: restart the kernel and fit "
                "before anything else uses the GPU, or fit in a script, with torchrun --nproc-per-node."
            )
            raise RuntimeError(msg)
        return strategy


def _there() -> dict[str, int]:
    """Number of devices of every kind; those of a CPU are its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cuda": torch.cuda.device_count(), "cpu": cores}


def _started_outside() -> bool:
    """Whether torchrun or ``fabric run`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("LT_CLI_USED") == "1"


def _machines() -> int:
    """Number of machines with as many processes each."""
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return max(world // local, 1) if _started_outside() else 1


def _fabric() -> Any:
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        msg = 'More than one device, or a strategy, needs Lightning Fabric: pip install "ipar[fabric]".'
        raise ImportError(msg) from error
    return Fabric


def _as_rank(fabric: Any, adata: AnnData, fit: Fit[T], run: Run) -> T:
    """A fit as one of several processes; the first alone shows bars, logs and warns."""
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric)
    first = ranks.rank == 0
    run = replace(run, seed=ranks.same(run.seed), device=fabric.device, progress=run.progress and first, ranks=ranks)
    with ExitStack() as stack:
        stack.enter_context(own_settings())
        if not first:
            stack.enter_context(silent())
        return fit(adata, run)


def _forked(fabric: Any, adata: AnnData, fit: Fit[T], run: Run, file: IO[bytes]) -> None:
    """The same in a forked process; the first tells what it wrote to its copy of the AnnData."""
    answer: Answer[T] = Answer()
    with answer.of_writing(adata):
        answer.result = _as_rank(fabric, adata, fit, run)
    if fabric.global_rank == 0:
        answer.write(file)


@contextmanager
def _workers_end(fabric: Any) -> Iterator[None]:
    """After an error, ctrl-C too, no process started within goes on, and the environment is as before."""
    before, environment = set(multiprocessing.active_children()), dict(os.environ)
    try:
        yield
    except BaseException:
        started: list[Any] = getattr(fabric.strategy.launcher, "procs", [])
        ended = [*started, *(set(multiprocessing.active_children()) - before)]
        started.clear()  # Fabric ends this process, too, when it sees one of them end
        for process in ended:
            process.terminate()
        if ended and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        raise
