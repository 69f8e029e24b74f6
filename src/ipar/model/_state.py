"""Networks as plain arrays. Every fitted object has ``state()`` and ``from_state()``: settings that JSON holds, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Arrays = dict[str, NDArray[Any]]
State = tuple[dict[str, Any], Arrays]
"""Settings that JSON holds, and arrays by name."""


def module_arrays(module: nn.Module, prefix: str) -> Arrays:
    """Weights of a module as numpy arrays under prefixed names."""
    return {f"{prefix}.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def arrays_under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Those arrays whose names start with a prefix and a dot, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def load_module(module: nn.Module, arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Fill a module from :func:`module_arrays`."""
    own = arrays_under(arrays, prefix)
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
    module.eval()


def joined(**parts: State) -> State:
    """One state of several named ones."""
    config = {name: part[0] for name, part in parts.items()}
    return config, {f"{name}.{key}": value for name, part in parts.items() for key, value in part[1].items()}
