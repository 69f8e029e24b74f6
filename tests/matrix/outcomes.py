"""What a row of the matrix expects, and how it is checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


@dataclass(frozen=True)
class Outcome:
    """An error, with what must be said, warnings by what they say, or neither."""

    error: type[BaseException] | tuple[type[BaseException], ...] | None = None
    says: str = ""
    warns: tuple[str, ...] = ()


OK = Outcome()


class CommandError(Exception):
    """A command that ended with status 2; the message is what it wrote to stderr."""


def refused(error: type[BaseException] | tuple[type[BaseException], ...], says: str) -> Outcome:
    """The call raises this error, whose message has this pattern: what was found, and the remedy."""
    return Outcome(error, says)


def warned(*patterns: str) -> Outcome:
    """The call works, and says each of these."""
    return Outcome(warns=patterns)


@dataclass(frozen=True)
class Row:
    """One case: a call, an input by name, options, and what is expected."""

    call: str
    input: str
    outcome: Outcome
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{name}={_short(value)}" for name, value in self.options.items())
        return f"{self.call}({self.input}{', ' if said else ''}{said})"


def _short(value: Any) -> str:
    return (
        repr(value)[:25] if isinstance(value, str | int | float | tuple | list | type(None)) else type(value).__name__
    )


def check(row: Row, call: Callable[[], Any]) -> Any:
    """Run a call, and compare what happens with the row."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if row.outcome.error is not None:
            with pytest.raises(row.outcome.error) as raised:
                call()
            error = raised.value
            said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            assert re.search(row.outcome.says, said, re.DOTALL), said
            return None
        found = call()
    said = [f"{one.category.__name__}: {one.message}" for one in caught]
    for pattern in row.outcome.warns:
        assert any(re.search(pattern, one) for one in said), said
    left = [one for one in said if not any(re.search(pattern, one) for pattern in (*row.outcome.warns, *HARMLESS))]
    assert not left, f"unexpected warnings: {left}"
    return found


HARMLESS = (
    "ResemblanceWarning",  # a few cells, or a part of the genes, often look unlike
    "FrameWarning",  # the tissue of the matrix is small
    "LocalisabilityWarning",  # and its encoder was trained for a moment
    "ImplicitModificationWarning",  # of anndata, for views: it says that they become copies
)


def contents(value: Any) -> Iterator[tuple[str, Any]]:
    """Everything within an AnnData, by value and by path."""
    if isinstance(value, ad.AnnData):
        yield "shape", value.shape
        for name in ("X", "obs", "var", "uns", "obsm", "varm", "obsp", "layers"):
            yield from ((f"{name}/{path}", one) for path, one in contents(getattr(value, name)))
    elif isinstance(value, pd.DataFrame):
        yield "index", value.index.to_numpy(dtype=object).copy()
        yield "columns", value.columns.to_numpy(dtype=object).copy()
        for name in value.columns:
            column = value[name]
            yield str(name), (str(column.dtype), column.astype(object).to_numpy(dtype=object).copy())
    elif isinstance(value, Mapping):
        yield "keys", sorted(map(str, value))
        for key in sorted(value, key=str):
            yield from ((f"{key}/{path}", one) for path, one in contents(value[key]))
    elif sparse.issparse(value):
        yield "sparse", (value.dtype.str, value.tocoo().toarray())
    elif isinstance(value, np.ndarray):
        yield "array", (value.dtype.str, np.array(value))
    else:
        yield "value", value


def remember(value: Any) -> dict[str, Any]:
    """The contents to compare with later."""
    return dict(contents(value))


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Paths of what is new, gone or other."""
    return {path for path in before.keys() | after.keys() if not _same(before.get(path), after.get(path))}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype == object:
            return all(x is y or x == y or (x != x and y != y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    return a is b or (not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and bool(a == b))


def written(paths: set[str]) -> set[str]:
    """Keys of an AnnData, as ``obsm/X_ipar``, that paths belong to."""
    kinds = ("obs", "obsm", "obsp", "uns", "var", "varm", "layers", "X")
    found = {"/".join(path.split("/")[:2]) for path in paths if path.split("/")[0] in kinds}
    return {one for one in found if one.split("/")[-1] not in ("keys", "columns", "index")}
