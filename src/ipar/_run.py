"""One integer for any kind of seed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch

from ipar._seeds import as_seed

Device: TypeAlias = str | torch.device
"""``"auto"``, the name of a device, or a device."""


def get_device(device: Device) -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"`` … into a device; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If the device is not known or not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # there, and with values
    except (RuntimeError, AssertionError) as error:
        msg = f"Device {device!r} is not available ({str(error).splitlines()[0]}): use device='auto' or 'cpu'."
        raise ValueError(msg) from error
    return found


@dataclass(frozen=True)
class Run:
    """Seed, device and progress, handed from the public call down to every stage.

    Attributes
    ----------
    seed
        Seed of everything random. Stages draw from generators of their own; the global random state stays as it was.
    device
        Where networks compute.
    progress
        Show progress bars.
    seconds
        Wall-clock time of every stage so far, by its name.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: bool = False
    seconds: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, random_state: int | np.random.Generator | None, device: Device = "auto", progress: bool = True) -> Run:
        """The run that the arguments of a public function describe."""
        return cls(as_seed(random_state), get_device(device), progress)

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator; every call starts at the seed."""
        return np.random.default_rng(self.seed)

    @property
    def generator(self) -> torch.Generator:
        """The same for PyTorch, on the CPU, so that results do not depend on the device."""
        return torch.Generator().manual_seed(self.seed)

    def quiet(self) -> Run:
        """The same run without progress bars."""
        return replace(self, progress=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what is done within to that of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """PyTorch's global generator at the seed; afterwards it is as it was before."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


@contextmanager
def on_device(modules: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """Networks on a device for the time being; afterwards each is back where it was."""
    homes = [next(module.parameters()).device for module in modules]
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home)
