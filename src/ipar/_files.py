"""Writing files and directories as a whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ipar._space import full_code, full_message

_DAY = 86_400.0
_LONGEST = 255  # bytes of a name
_AT_FDCWD, _EXCHANGE = -100, 2  # of renameat2(2); RENAME_SWAP of renamex_np has the same value


def target_of(path: str | Path, directory: str | None = None) -> Path:
    """Where a file, or a directory of a kind such as "a model's directory", is to be written, with links followed.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    ValueError
        If it is empty, or holds a NUL byte.
    OSError
        If nothing can be written there: a link to nothing, a directory where a file belongs or the reverse, a pipe, a socket
        or a device, a name that is too long, or a place without permission.
    """
    path = as_path(path)
    if os.path.islink(path) and not os.path.exists(path):
        msg = f"{path} is a link to {os.readlink(path)}, which does not exist: remove the link, or make what it points to."
        raise FileNotFoundError(msg)
    target = Path(os.path.realpath(path))
    if path.name in ("", "..") or os.path.ismount(target):
        msg = f"{path} is a directory that cannot be replaced: name a {'directory' if directory else 'file'} in it."
        raise IsADirectoryError(msg)
    if any(len(os.fsencode(part)) > _LONGEST for part in target.parts):
        msg = f"{path} has a name of more than {_LONGEST} bytes: choose a shorter one."
        raise OSError(errno.ENAMETOOLONG, msg)
    _check_kind(path, target, directory)
    _check_parent(path, target)
    return target


def as_path(path: object, remedy: str = "name the file to write") -> Path:
    """A path, or TypeError or ValueError where it is none."""
    if not isinstance(path, str | os.PathLike):
        msg = f"A path must be a str or a pathlib.Path, found {type(path).__name__}: {remedy}."
        raise TypeError(msg)
    text = os.fsdecode(path)
    if not text.strip() or "\0" in text:
        msg = f"A path must not be empty or hold a NUL byte, found {text!r}: {remedy}."
        raise ValueError(msg)
    return Path(text)


def _check_kind(path: Path, target: Path, directory: str | None) -> None:
    """Refuse what is there, if it is of another kind."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:  # a name that is too long, a file in the place of a directory, a place out of reach
        msg = f"{path} cannot be written ({error.strerror}): choose another path."
        raise OSError(error.errno, msg) from error
    if directory and not stat.S_ISDIR(mode):
        msg = f"{path} exists and is not {directory}: choose another path, or remove it."
        raise FileExistsError(msg)
    if stat.S_ISDIR(mode) and not directory:
        msg = f"{path} is a directory: name a file to write."
        raise IsADirectoryError(msg)
    if not directory and not stat.S_ISREG(mode):
        msg = f"{path} is a pipe, a socket or a device, not a file: choose another path."
        raise FileExistsError(msg)
    if not os.access(target, os.W_OK):
        msg = f"{path} is read-only: make it writable, or choose another path."
        raise PermissionError(msg)


def _check_parent(path: Path, target: Path) -> None:
    """Refuse a place in which no file can be made; directories that are missing are made later."""
    home = next(parent for parent in target.parents if os.path.exists(parent))
    if not home.is_dir():
        msg = f"{path} cannot be written, {home} is a file: choose another path."
        raise NotADirectoryError(msg)
    if not os.access(home, os.W_OK | os.X_OK):
        msg = f"{path} cannot be written, {home} is read-only: choose another path."
        raise PermissionError(msg)


@contextmanager
def replaced(path: str | Path, *, size: int = 0) -> Iterator[Path]:
    """Give a file to write, which takes the place of another one at the end; an interrupted write leaves the old one.

    A new file has the permissions that the umask leaves; others keep their mode, and their owner where that is permitted.
    ``size`` is about how many bytes will be written, for the message of a full disk.
    """
    with _staged(target_of(path), size) as (target, staging):
        os.close(os.open(staging, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if target.exists() else 0o666))
        yield staging
        sync(staging)
        _take_mode(staging, target)
        os.replace(staging, target)


@contextmanager
def replaced_directory(
    path: str | Path, is_ours: Callable[[Path], bool], what: str, *, size: int = 0
) -> Iterator[Path]:
    """The same for a directory: one that is there is replaced only if it is empty, or ours to replace."""
    with _staged(directory_of(path, is_ours, what), size) as (target, staging):
        staging.mkdir(0o700 if target.exists() else 0o777)
        yield staging
        for one in staging.rglob("*"):
            _take_mode(one, target / one.relative_to(staging))
        _take_mode(staging, target)
        _swap_in(staging, target)


def directory_of(path: str | Path, is_ours: Callable[[Path], bool], what: str) -> Path:
    """As :func:`target_of`, for a directory of a kind.

    Raises
    ------
    FileExistsError
        If there is a directory of another kind.
    """
    target = target_of(path, what)
    if target.exists() and any(target.iterdir()) and not is_ours(target):
        msg = f"{path} exists and is not {what}: choose another path, or remove it."
        raise FileExistsError(msg)
    return target


@contextmanager
def _staged(target: Path, size: int) -> Iterator[tuple[Path, Path]]:
    """A name beside the target, under which nothing is left at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    staging = target.with_name(f"{_prefix(target)}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield target, staging
    except BaseException as error:
        if (code := full_code(error)) is not None:
            raise OSError(code, full_message(target, staging, size)) from error
        raise
    finally:
        _remove(staging)


def _prefix(target: Path) -> str:
    """What the names of temporary files of a target on this machine start with; short of the limit of 255 bytes."""
    own = hashlib.sha256(os.fsencode(target.name) + platform.node().encode()).hexdigest()[:12]
    shown = os.fsencode(target.name)[:60].decode(errors="ignore")
    return f".ipar-{shown}-{own}-"


def _remove_stale(target: Path) -> None:
    """Remove what killed writes to a target have left; the old directory comes back if it was moved out and no new one in."""
    prefix = _prefix(target)
    with suppress(OSError):  # of a directory that must not be listed, or of what is removed meanwhile
        for found in sorted(target.parent.iterdir()):
            if found.name.startswith(prefix) and not _alive(found, found.name.removeprefix(prefix).partition("-")[0]):
                if found.name.endswith("-old") and not target.exists():
                    os.rename(found, target)
                else:
                    _remove(found)


def _alive(path: Path, pid: str) -> bool:
    """Whether the process that writes a temporary file still runs; none writes for longer than a day."""
    with suppress(OSError, ValueError):
        if time.time() - path.stat().st_mtime < _DAY:
            if os.name == "posix":  # elsewhere it would end the process
                os.kill(int(pid), 0)
            return True
    return False


def restore(path: Path) -> None:
    """Bring a directory back that a killed write has moved out."""
    with suppress(OSError):
        if not path.exists() and path.parent.is_dir():
            _remove_stale(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for _ in range(20):  # threads of zarr may write on for a moment
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.05)
    else:
        path.unlink(missing_ok=True)


def _take_mode(path: Path, old: Path) -> None:
    """Give a file or directory the owner, where that is permitted, and the mode of the one that it replaces."""
    try:
        found = old.stat()
    except OSError:
        return
    for owner in ((found.st_uid, found.st_gid), (-1, found.st_gid)):
        with suppress(OSError, AttributeError):
            os.chown(path, *owner)
            break
    path.chmod(stat.S_IMODE(found.st_mode))


def sync(path: Path) -> None:
    """Wait until a file is on the disk: a name must not come to stand for less than the whole."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _swap_in(staging: Path, target: Path) -> None:
    """Put a finished directory in place of an old one, in one step where the system can."""
    if not target.exists():
        os.replace(staging, target)
    elif not _exchanged(staging, target):
        old = staging.with_name(f"{staging.name}-old")
        os.replace(target, old)
        try:
            os.replace(staging, target)
        except BaseException:
            os.replace(old, target)
            raise
        _remove(old)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two directories, at no moment of which either name is missing; False where the system cannot."""
    system: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(system, "renameat2"):
        return bool(system.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0)
    return hasattr(system, "renamex_np") and bool(system.renamex_np(*names, _EXCHANGE) == 0)
