"""Options checked by their type hints: kinds, bounds and messages in one place."""

from __future__ import annotations

import builtins
import math
import numbers
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, Protocol, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd


class Rule(Protocol):
    """What a value of the right kind must also fulfil."""

    def problem(self, value: Any) -> str | None:
        """What the value must do, if it does not."""


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest number, or those that a number must lie above and below."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def problem(self, value: Any) -> str | None:
        """See :class:`Rule`."""
        inside = self.low < value < self.high if self.open else self.low <= value <= self.high
        if inside:
            return None
        if math.isinf(self.high):
            return f"be {'above' if self.open else 'at least'} {self.low}"
        return f"lie {'strictly ' if self.open else ''}between {self.low} and {self.high}"


@dataclass(frozen=True)
class AtMost:
    """A wide limit, beyond which a program would seem to hang."""

    high: float

    def problem(self, value: Any) -> str | None:
        """See :class:`Rule`."""
        return None if value <= self.high else f"be at most {self.high}"


@dataclass(frozen=True)
class Rising:
    """A pair of a smallest and a largest number."""

    def problem(self, value: Any) -> str | None:
        """See :class:`Rule`."""
        return None if value[0] <= value[1] else "be the smallest number, then the largest"


@dataclass(frozen=True)
class FitForKey:
    """A name under which results can be stored, in files too."""

    def problem(self, value: Any) -> str | None:
        """See :class:`Rule`."""
        return None if value.strip() and "/" not in value else "not be empty or hold a slash"


Key: TypeAlias = Annotated[str, FitForKey()]
Count: TypeAlias = Annotated[int, Bounds(1)]
AtLeastTwo: TypeAlias = Annotated[int, Bounds(2)]
Depth: TypeAlias = Annotated[int, Bounds(1), AtMost(100)]
Steps: TypeAlias = Annotated[int, Bounds(1), AtMost(5_000)]
Pairs: TypeAlias = Annotated[int, Bounds(1), AtMost(10_000_000)]
AtLeastFive: TypeAlias = Annotated[int, Bounds(5)]
Natural: TypeAlias = Annotated[int, Bounds(0)]
Share: TypeAlias = Annotated[float, Bounds(0, 1)]
OpenShare: TypeAlias = Annotated[float, Bounds(0, 1, open=True)]
Distance: TypeAlias = Annotated[float, Bounds(0.001), AtMost(1_000_000)]
Weight: TypeAlias = Annotated[float, Bounds(0), AtMost(1_000_000)]
Rate: TypeAlias = Annotated[float, Bounds(0), AtMost(10)]
Positive: TypeAlias = Annotated[float, Bounds(0, open=True)]
NonNegative: TypeAlias = Annotated[float, Bounds(0)]
Sizes: TypeAlias = Annotated[tuple[Count, Count], Rising()]

_REMEDIES = {
    "Tensor": "make one of an array with torch.from_numpy(array)",
    "device": "pass 'auto', 'cpu' or 'cuda'",
    "AnnData": "read one with anndata.read_h5ad(path), or pass a SpatialData and the name of its table as table_key",
    "IPALite": "fit one with ipar.tl.fit_ipalite, or read one with ipar.load(directory)",
    "IGA": "fit one with ipar.tl.fit_iga, or read one with ipar.load(directory)",
}
_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda x: isinstance(x, bool | np.bool_)),
    int: ("an integer", lambda x: isinstance(x, numbers.Integral) and not isinstance(x, bool)),
    float: ("a number", lambda x: isinstance(x, numbers.Real) and not isinstance(x, bool | np.bool_)),
    str: ("a string", lambda x: isinstance(x, str)),
    type(None): ("None", lambda x: x is None),
    np.random.Generator: ("a numpy Generator", lambda x: isinstance(x, np.random.Generator)),
}


@dataclass(frozen=True)
class _Problem:
    """Why a value does not fit a hint: it is of another kind, or of this kind and not usable."""

    expected: str
    usable_kind: bool = False


def check(name: str, value: Any, hint: Any) -> None:
    """Raise TypeError or ValueError, which names the option, what was expected and what was found, unless a value fits a hint."""
    found = _problem(value, hint)
    if found is None:
        return
    remedy = next((text for kind, text in _REMEDIES.items() if kind in _names(hint)), None)
    end = f": {remedy}." if remedy else "."
    if found.usable_kind:
        msg = f"{name} must {found.expected}, found {_shown(value)}{end}"
        raise ValueError(msg)
    msg = f"{name} must be {found.expected.rstrip(',')}, found {_shown(value)} of type {type(value).__name__}{end}"
    raise TypeError(msg)


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check arguments of a function, by name, by its type hints."""
    hints = _hints(function)
    for name, value in arguments.items():
        check(name, value, hints.get(name, Any))


def checked(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The values that hints are given for, each checked; KeyError if one is missing."""
    for name, hint in hints.items():
        check(name, values[name], hint)
    return {name: values[name] for name in hints}


class Checked:
    """Base of dataclasses whose fields are checked on construction."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        hints = _field_hints(kind)
        for field in fields(self):  # type: ignore[arg-type]
            check(field.name, getattr(self, field.name), hints[field.name])


class _Names(dict[str, Any]):
    """Names of a module; those that it imports for type checkers alone are AnnData, or anything."""

    def __missing__(self, name: str) -> Any:
        if name == "AnnData":
            from anndata import AnnData

            return AnnData
        return getattr(builtins, name, Any)


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    names = _Names(getattr(function, "__globals__", {}))
    return get_type_hints(function, {}, names, include_extras=True)


@cache
def _field_hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _problem(value: Any, hint: Any) -> _Problem | None:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = _problem(value, inner[0])
        return found if found is not None and not found.usable_kind else _broken_rule(value, inner[1:]) or found
    if origin in (Union, types.UnionType):
        return _of_union(value, inner)
    if origin is Literal:
        fits = isinstance(value, str | bool | int) and value in inner
        return None if fits else _Problem(f"be one of {inner}", usable_kind=True)
    if origin is tuple:
        return _of_tuple(value, inner)
    if origin in (Sequence, Iterable):
        return _of_sequence(value, inner[0], origin)
    if origin is Mapping:
        return None if isinstance(value, Mapping) else _Problem("a dictionary")
    if hint in _KINDS:
        expected, fits_kind = _KINDS[hint]
        if not fits_kind(value):
            return _Problem(expected)
        finite = hint is not float or math.isfinite(value)
        return None if finite else _Problem("be a finite number", usable_kind=True)
    known = isinstance(hint, type) and hint is not Any and origin is None and not getattr(hint, "_is_protocol", False)
    if known and not isinstance(value, hint):
        return _Problem(_a(hint.__name__))
    return None


def _broken_rule(value: Any, rules: Iterable[Rule]) -> _Problem | None:
    broken = next((said for rule in rules if (said := rule.problem(value))), None)
    return None if broken is None else _Problem(broken, usable_kind=True)


def _of_union(value: Any, hints: Sequence[Any]) -> _Problem | None:
    problems = [_problem(value, hint) for hint in hints]
    known = [one for one in problems if one is not None]
    if len(known) < len(problems):
        return None
    near = [one for one in known if one.usable_kind]
    if near:
        return near[0]
    texts = [one.expected for one in known]
    return _Problem(" or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts))


def _of_tuple(value: Any, hints: Sequence[Any]) -> _Problem | None:
    any_length = len(hints) == 2 and hints[1] is Ellipsis
    expected = "a sequence of such values" if any_length else f"{len(hints)} values"
    if not isinstance(value, tuple | list) or not (any_length or len(value) == len(hints)):
        return _Problem(expected)
    pairs = [(one, hints[0]) for one in value] if any_length else list(zip(value, hints, strict=True))
    return _first_of(pairs)


def _of_sequence(value: Any, hint: Any, origin: Any) -> _Problem | None:
    listed = isinstance(value, Sequence | np.ndarray | pd.Index | pd.Series)
    if isinstance(value, str | bytes) or not (listed or (origin is Iterable and isinstance(value, Iterable))):
        return _Problem("a sequence, such as a list,")
    return _first_of([(one, hint) for one in value]) if listed else None


def _first_of(pairs: Iterable[tuple[Any, Any]]) -> _Problem | None:
    """The first problem of several values, told of each."""
    found = next((one for value, hint in pairs if (one := _problem(value, hint))), None)
    if found is None:
        return None
    each = (
        f"hold values that {found.expected}" if found.usable_kind else f"a sequence of which each is {found.expected},"
    )
    return _Problem(each, found.usable_kind)


def _names(hint: Any) -> set[str]:
    return {one.__name__ for one in (get_args(hint) or (hint,)) if isinstance(one, type)}


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _shown(value: Any, longest: int = 60) -> str:
    if not isinstance(value, str | int | float | bool | tuple | list | np.generic | type(None)):
        return "an object"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= longest else f"{text[:longest]}…"
