"""Space on a disk: asked for before a write, and missing in the middle of one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_space(path: str | Path, size: int) -> None:
    """Raise OSError if a disk has less space than about ``size`` bytes."""
    home = next(parent for parent in Path(os.path.realpath(path)).parents if os.path.exists(parent))
    free = shutil.disk_usage(home).free
    if free < size:
        msg = (
            f"No space to write {path}: about {_amount(size)} are needed, {_amount(free)} are free, "
            f"{_amount(size - free)} are missing. Free space, or choose another path."
        )
        raise OSError(errno.ENOSPC, msg)


def full_code(error: BaseException | None) -> int | None:
    """The error's number if it is, or was raised by, that of a full disk."""
    while error is not None:
        for code in _FULL:
            if getattr(error, "errno", None) == code or f"errno = {code}," in str(error):
                return code
        error = error.__cause__ or error.__context__
    return None


def full_message(target: Path, staging: Path, size: int) -> str:
    found = [one.stat() for one in (staging, *staging.rglob("*")) if one.is_file()]
    written = sum(min(one.st_size, 512 * one.st_blocks) for one in found)
    needed = max(size, sum(one.st_size for one in found), written + 1)
    return (
        f"No space left to write {target}: about {_amount(needed)} are needed, {_amount(written)} were written, "
        f"{_amount(needed - written)} are missing. What was there before is as it was. Free space, or choose another path."
    )


def _amount(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
