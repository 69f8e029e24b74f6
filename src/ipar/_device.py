"""Where to compute."""

from __future__ import annotations

import torch


def get_device(device: str) -> torch.device:
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
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        msg = f"Device {device!r} is not available ({error}): use device='auto' or 'cpu'."
        raise ValueError(msg) from error
    return found
