"""Tissue coordinates from expression, learned from spatial transcriptomics slides."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipar import baselines, datasets, geometry, graph, metrics, nn, pl, pp, tl, training
    from ipar.model import IGA, IPALite, load

__version__ = version("ipar")

__all__ = [
    "IGA",
    "IPALite",
    "baselines",
    "datasets",
    "geometry",
    "graph",
    "load",
    "metrics",
    "nn",
    "pl",
    "pp",
    "tl",
    "training",
]

_FROM_MODEL = frozenset({"IGA", "IPALite", "load"})
_MODULES = frozenset(__all__) - _FROM_MODEL


def __getattr__(name: str) -> Any:
    # torch and pyplot take seconds to import: a submodule is loaded when it is first used (PEP 562)
    if name in _MODULES:
        return importlib.import_module(f"ipar.{name}")
    if name in _FROM_MODEL:
        return getattr(importlib.import_module("ipar.model"), name)
    msg = f"module 'ipar' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
