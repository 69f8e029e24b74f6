"""What users set once for all calls: ``ipar.settings``."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

from ipar._options import Bounds, check

logger = logging.getLogger("ipar")

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


@dataclass(frozen=True)
class _DeviceName:
    """The form of the name of a device; whether it is there is seen when a call needs it."""

    def problem(self, value: Any) -> str | None:
        """See :class:`ipar._options.Rule`."""
        return None if re.fullmatch(r"[a-z]+(:\d+)?", value) else "be 'auto' or a name such as 'cpu' or 'cuda:0'"


Verbosity: TypeAlias = Annotated[int, Bounds(0, 3)]
DeviceName: TypeAlias = Annotated[str, _DeviceName()]
Seed: TypeAlias = Annotated[int, Bounds(0, 2**64 - 1)]


@dataclass
class Settings:
    """Settings of all calls, ``ipar.settings``.

    They start as the environment variables say, and are checked when they are set. Arguments of a call come first.

    Attributes
    ----------
    verbosity
        What the logger ``"ipar"`` shows: 0 errors, 1 also warnings (the default), 2 also information, 3 also hints, such as
        the time of every stage. ``IPAR_VERBOSITY``.
    progress
        Whether calls show progress bars. ``progress=False`` hides those of a call. ``IPAR_PROGRESS``.
    device
        What ``device="auto"`` stands for: ``"auto"`` (the default: CUDA if available, else CPU), or the name of a torch
        device. ``IPAR_DEVICE``.
    random_state
        Seed of calls with ``random_state=None`` (default: None, a fresh seed for each). Calls that do not name a seed take 0.
        ``IPAR_SEED``.
    datadir
        Folder with copies of public data sets (default: None). ``IPAR_DATA``.

    Examples
    --------
    >>> import ipar
    >>> ipar.settings.verbosity = 2
    >>> with ipar.settings.override(device="cpu", progress=False):
    ...     print(ipar.settings.device)
    cpu
    """

    verbosity: Verbosity = 1
    progress: bool = True
    device: DeviceName = "auto"
    random_state: Seed | None = None
    datadir: str | Path | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        hints = _hints()
        if name not in hints:
            msg = f"ipar.settings has no {name!r}, found {sorted(hints)}: set one of these."
            raise AttributeError(msg)
        check(f"ipar.settings.{name}", value, hints[name])
        if name == "datadir" and value is not None:
            value = Path(value).expanduser()
        super().__setattr__(name, value)
        if name == "verbosity":
            logger.setLevel(_LEVELS[value])

    @contextmanager
    def override(self, **values: Any) -> Iterator[Settings]:
        """Other settings for the time being; if one is refused, none is changed."""
        before = asdict(self)
        try:
            for name, value in values.items():
                setattr(self, name, value)
            yield self
        finally:
            for name in before.keys() & values.keys():
                setattr(self, name, before[name])

    def apply(self, arguments: MutableMapping[str, Any]) -> None:
        """Fill in what the arguments of a call leave open."""
        if arguments.get("device") == "auto":
            arguments["device"] = self.device
        if "progress" in arguments:
            arguments["progress"] = arguments["progress"] and self.progress
        if "random_state" in arguments and arguments["random_state"] is None:
            arguments["random_state"] = self.random_state

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that environment variables name."""
        given = {name: environment[key] for name, key in _VARIABLES.items() if environment.get(key)}
        values: dict[str, Any] = {name: _READ.get(name, str)(text) for name, text in given.items()}
        for name, value in values.items():
            check(_VARIABLES[name], value, _hints()[name])
        return cls(**values)


_VARIABLES = {
    "verbosity": "IPAR_VERBOSITY",
    "progress": "IPAR_PROGRESS",
    "device": "IPAR_DEVICE",
    "random_state": "IPAR_SEED",
    "datadir": "IPAR_DATA",
}


def _hints() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _whole(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d{1,30}", text.strip()) else text


def _truth(text: str) -> bool | str:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words.get(text.strip().lower(), text)


_READ = {"verbosity": _whole, "random_state": _whole, "progress": _truth}


class _Shown(logging.Handler):
    """Writes to standard error where the user's program has set up no logging of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers and logger.handlers == [self]:
            sys.stderr.write(f"{self.format(record)}\n")


logger.addHandler(_Shown())
settings = Settings.of_environment(os.environ)
