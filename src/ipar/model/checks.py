"""What is read of a model, checked before it is used: nothing of a file is taken on trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipar._options import check

_FIGURES = frozenset({"localisable", "explained", "distance_spearman", "recall_ratio", "two_places"})


@contextmanager
def understood(what: str, remedy: str) -> Iterator[None]:
    """Whatever does not fit in a model that is being read is told as such, with what to do."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        msg = f"{what} is not complete ({said}): {remedy}."
        raise ValueError(msg) from error


def check_version(what: str, found: tuple[str, Any], versions: Mapping[str, int], ipar_version: Any) -> None:
    """Raise ValueError unless a format and its version are among those that can be read."""
    kind, version = found
    if isinstance(version, bool) or versions.get(kind) != version:
        readable = " and ".join(f"{kind} version {version}" for kind, version in versions.items())
        other = f"load it with ipar {ipar_version}, or " if isinstance(ipar_version, str) else ""
        msg = f"{what} has format {kind} version {version}, this ipar reads {readable}: {other}fit it again."
        raise ValueError(msg)


def contents(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """Kind and shape of every array, which settings are stored with."""
    return {name: [str(np.asarray(value).dtype), *np.shape(value)] for name, value in arrays.items()}


def check_contents(arrays: Mapping[str, Any], expected: Any) -> None:
    """Raise ValueError unless arrays are finite, and those that were written."""
    if not isinstance(expected, Mapping):
        msg = "the list of arrays is missing"
        raise ValueError(msg)
    found = contents(arrays)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            msg = f"array {name} is {_shown(found.get(name))}, written was {_shown(expected.get(name))}"
            raise ValueError(msg)
        if np.asarray(arrays[name]).dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            msg = f"array {name} has NaN or infinite values"
            raise ValueError(msg)


def _shown(entry: Any) -> str:
    return f"{entry[0]} {tuple(entry[1:])}" if isinstance(entry, list) and entry else "missing"


def shaped(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Arrays of shapes such as ``"m 2"``, in which a letter is the same size everywhere; those with a ? may be missing."""
    sizes: dict[str, int] = {}
    found = {}
    for name, shape in shapes.items():
        wanted, known = shape.removesuffix("?").split(), name in arrays
        if not known and shape.endswith("?"):
            continue
        found[name] = np.asarray(arrays[name])
        check_width(f"number of dimensions of {name}", found[name].ndim, len(wanted))
        for letter, size in zip(wanted, found[name].shape, strict=True):
            expected = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
            check_width(f"a dimension of {name}", size, expected)
    return found


def check_width(what: str, found: int, expected: int) -> None:
    """Raise ValueError where two parts of a model do not fit together."""
    if found != expected:
        msg = f"{what} is {found}, other parts of the model need {expected}"
        raise ValueError(msg)


def checked_names(what: str, names: Any, n: int) -> list[str]:
    """So many different strings."""
    check(what, names, Sequence[str])
    check_width(f"number of {what}", len(names), n)
    check_width(f"number of different {what}", len(set(names)), n)
    return list(names)


def checked_record(found: Any) -> dict[str, Any]:
    """The record of a fit; figures of the localisability must be numbers, which messages of predictions show."""
    check("record", found, dict)
    check("library_key", found.get("library_key"), str | None)
    verdict = found.get("localisability", {})
    check("localisability", verdict, dict)
    for name in _FIGURES.union(verdict) - {"held_out"} if verdict else ():
        if not isinstance(verdict[name], int | float):
            msg = f"localisability: {name} must be a number, found {verdict[name]!r}"
            raise TypeError(msg)
    return dict(found)
