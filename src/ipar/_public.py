"""The edge of public calls: options are checked first, and what fails leaves nothing behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from ipar._docs import with_parameters
from ipar._options import check_arguments
from ipar._preferences import settings
from ipar._settings import own_settings
from ipar._table_arguments import TableParameters, TablesOfCall

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Public(Protocol[P, R_co]):
    """A public function. Those on AnnData also take a SpatialData, with the name of its table."""

    __name__: str

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, *args: Any, table_key: str, **kwargs: Any) -> R_co: ...
    @overload
    def __call__(self, *args: Any, coordinate_system: str, **kwargs: Any) -> R_co: ...


def public(function: Callable[P, R]) -> Public[P, R]:
    """Check options by type hints, fill in ``ipar.settings``, and leave AnnData as they were after an error.

    The call works under :func:`own_settings`. Where the function takes an AnnData, the call also takes a SpatialData.
    """
    signature = inspect.signature(function)
    parameters = TableParameters.of(signature)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        named = parameters.taken(kwargs)
        bound = signature.bind(*args, **kwargs)
        given = list(bound.arguments)
        bound.apply_defaults()
        tables = TablesOfCall(parameters, bound.arguments, named)
        check_arguments(function, {name: bound.arguments[name] for name in given})
        settings.apply(bound.arguments)
        with ExitStack() as stack:
            stack.enter_context(own_settings())
            for value in bound.arguments.values():
                if hasattr(value, "obsm") and hasattr(value, "uns"):
                    stack.enter_context(all_or_nothing(value))
            stack.enter_context(tables.coordinates())
            return cast(R, tables.returned(function(*bound.args, **bound.kwargs)))

    if parameters.added:
        shown = parameters.widened(signature)
        call.__signature__ = shown  # type: ignore[attr-defined]
        hints = {name: one.annotation for name, one in shown.parameters.items()}
        call.__annotations__ = function.__annotations__ | hints | {"return": shown.return_annotation}
        call.__doc__ = with_parameters(function.__doc__ or "", parameters.added)
    return cast(Public[P, R], call)


@contextmanager
def all_or_nothing(adata: Any) -> Iterator[None]:
    """An AnnData that is as it was before if anything is raised within, ctrl-C too."""
    tables, uns = {name: getattr(adata, name).copy(deep=False) for name in ("obs", "var")}, _structure(adata.uns)
    kept = {name: dict(getattr(adata, name)) for name in ("obsm", "obsp")}
    try:
        yield
    except BaseException:
        if not adata.is_view:  # a view that was written to is one no longer
            _restore(adata, tables, uns, kept)
        raise


def _structure(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values in dictionaries of their own."""
    return {key: _structure(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _restore(adata: Any, tables: dict[str, Any], uns: dict[str, Any], kept: dict[str, dict[str, Any]]) -> None:
    for name, table in tables.items():
        now = getattr(adata, name)
        if list(now) != list(table) or any(now[column] is not table[column] for column in table):
            setattr(adata, name, table)
    adata.uns = uns
    for name, before in kept.items():
        now = getattr(adata, name)
        for key in [key for key in now if key not in before]:
            del now[key]
        for key, value in before.items():
            if key not in now or now[key] is not value:
                now[key] = value
