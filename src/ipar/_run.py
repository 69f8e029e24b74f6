"""How a computation runs: its seed, its device, and whether it shows progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ipar._device import get_device
from ipar._seed import as_seed


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
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: bool = False

    @classmethod
    def of(cls, random_state: int | np.random.Generator | None, device: str = "auto", progress: bool = True) -> Run:
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
