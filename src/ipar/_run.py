"""What a public call hands down to every stage: seed, device, progress and time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from ipar._descent import Precision, fast_dtype
from ipar._ranks import Ranks
from ipar._seeds import as_seed

logger = logging.getLogger("ipar")

T = TypeVar("T")

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
    with _available(device):
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # there, and with values
    return found


def known_device(device: Device) -> torch.device:
    """A device by its name, whether it is there or not; raises ValueError if no device has such a name."""
    with _available(device):
        return torch.device(device)


@contextmanager
def _available(device: Device) -> Iterator[None]:
    """Name the device if PyTorch refuses it within."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        msg = f"Device {device!r} is not available ({str(error).splitlines()[0]}): use device='auto' or 'cpu'."
        raise ValueError(msg) from error


class _Bar(tqdm):  # type: ignore[misc]
    """A progress bar that also shows the time left of a call, of which it is a part."""

    def __init__(self, *, left: Callable[[float], float | None], **options: Any) -> None:
        self._left = left
        super().__init__(bar_format="{l_bar}{bar}{r_bar}{whole}", **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the format of the bar names, see tqdm."""
        found: dict[str, Any] = super().format_dict
        left = self._left(found["n"] / found["total"]) if found["total"] else None
        return found | {"whole": "" if left is None else f" {tqdm.format_interval(left)} left in all"}


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
    costs
        All stages of the call by name, in order, and what each costs beside the others: for the titles of progress bars, and
        the time left.
    seconds
        Wall-clock time of every stage so far, by its name.
    ranks
        Processes that train together.
    precision
        Of the heaviest products in training.
    clock
        Seconds since some moment.
    started
        When the call began, by the clock.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: bool = False
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    ranks: Ranks = field(default_factory=Ranks)
    precision: Precision = "auto"
    clock: Callable[[], float] = field(default=time.perf_counter, compare=False, repr=False)
    started: float = field(default=math.nan, compare=False, repr=False)
    _under_way: list[str] = field(default_factory=list, compare=False, repr=False)
    _done: list[float] = field(default_factory=lambda: [0.0], compare=False, repr=False)

    def __post_init__(self) -> None:
        if math.isnan(self.started):
            object.__setattr__(self, "started", self.clock())

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

    @property
    def fast_dtype(self) -> torch.dtype:
        """Precision of the heaviest products in training."""
        return fast_dtype(self.device, self.precision)

    def quiet(self) -> Run:
        """The same run without progress bars."""
        return replace(self, progress=False)

    def planned(self, costs: Mapping[str, float]) -> Run:
        """The same run, of which these stages are known to come."""
        return replace(self, costs=dict(costs))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what is done within to that of a stage, and name the stage in progress bars."""
        start = self.clock()
        self._under_way.append(name)
        try:
            yield
        finally:
            self._under_way.pop()
            taken = self.clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            logger.debug("%s: %.1f s", self._title(name), taken)

    def bar(self, name: str, total: int, unit: str = "step") -> tqdm[Any]:
        """A progress bar, titled by the stage under way, or by a name outside of all stages.

        It shows the time left of the stage and, of a call of several stages, of the call.
        """
        title = self._title(self._under_way[-1]) if self._under_way else name
        return _Bar(total=total, desc=title, unit=unit, disable=not self.progress, left=self.left)

    def over(self, items: Sequence[T], name: str, unit: str) -> Iterator[T]:
        """Items, one by one, with a :meth:`bar`."""
        with self.bar(name, len(items), unit) as bar:
            for item in items:
                yield item
                bar.update()

    def left(self, share: float) -> float | None:
        """Seconds until all stages are done, where a share of the one under way is; None if that is not known.

        What is left takes as long for its cost as what is done. A stage with several bars is done with the first.
        """
        names, stage = list(self.costs), next(iter(self._under_way), None)
        if len(names) < 2 or stage not in names:
            return None
        before, total = sum(list(self.costs.values())[: names.index(stage)]), sum(self.costs.values())
        share = share if len(self._under_way) == 1 else 0.0  # of a stage within the stage
        done = self._done[0] = max(self._done[0], before + share * self.costs[stage])
        return (self.clock() - self.started) * (total - done) / done if done > 0 else None

    def _title(self, stage: str) -> str:
        """A stage with its place among all."""
        names = list(self.costs)
        return f"{names.index(stage) + 1} of {len(names)}: {stage}" if stage in names else stage

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """PyTorch's global generator at the seed; afterwards it is as it was before."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


def sent(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device; the host goes on while it is copied."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


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
