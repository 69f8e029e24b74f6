"""Gradient descent: one optimiser, schedule and step for everything that is trained or moved."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ipar._ranks import Ranks

Schedule = Literal["constant", "cosine", "one-cycle"]
Precision = Literal["auto", "32-true", "bf16-mixed"]


class Descent:
    """Adam or AdamW on some tensors, with a schedule of the learning rate and a limit on the gradient.

    Parameters
    ----------
    parameters
        Tensors to change in place.
    lr
        Learning rate; the highest one of a one-cycle schedule.
    n_steps
        Length of the schedule.
    schedule
        How the learning rate changes.
    lr_end
        End of a cosine schedule.
    weight_decay
        Of AdamW; plain Adam if None.
    clip
        Largest norm of the gradient; no limit if None.
    ranks
        Processes whose losses are summed (default: this one alone).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        n_steps: int,
        schedule: Schedule = "cosine",
        lr_end: float = 0.0,
        weight_decay: float | None = None,
        clip: float | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.parameters, self.n_steps, self.clip = list(parameters), n_steps, clip
        self.ranks = ranks or Ranks()
        if weight_decay is None:
            self.optimiser: torch.optim.Optimizer = torch.optim.Adam(self.parameters, lr=lr)
        else:
            self.optimiser = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=weight_decay, fused=True)
        schedules = torch.optim.lr_scheduler
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = None
        if schedule == "cosine":
            self.schedule = schedules.CosineAnnealingLR(self.optimiser, n_steps, eta_min=lr_end)
        elif schedule == "one-cycle":
            self.schedule = schedules.OneCycleLR(self.optimiser, lr, total_steps=n_steps, pct_start=0.1)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def step(self, loss: Tensor) -> None:
        """Take one step down the gradient of a loss."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.sum_gradients(self.parameters)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()

    def minimise(self, loss: Callable[[int], Tensor], bar: str | None = None) -> None:
        """Take all steps; ``loss`` gives the loss of each, by its number. ``bar`` names a progress bar (default: none)."""
        for number in tqdm(range(self.n_steps), desc=bar, unit="step", disable=bar is None):
            self.step(loss(number))


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:  # not Linux
        flags = ""
    return frozenset(flags.split())


def fast_dtype(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """Precision of the heaviest products in training: by default bfloat16 where the hardware multiplies it, else float32.

    The gate is most of the work of a step. In bfloat16 it takes a third of the time on such a CPU.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = device.type == "cpu" and "avx512_bf16" in _cpu_flags()
    return torch.bfloat16 if native else torch.float32


def release_memory() -> None:
    """Give freed memory back to the system where the C library holds on to it (glibc).

    Batches differ in size, so freed blocks rarely fit the next one. Without this, training grows to several times what
    it uses.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
