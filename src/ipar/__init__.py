"""Tissue coordinates from expression, learned from spatial transcriptomics slides."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipar import baselines, datasets, geometry, get, graph, metrics, nn, pl, pp, tl, training
    from ipar._preferences import settings
    from ipar.model import IGA, IPALite, load

__version__ = version("ipar")

__all__ = [
    "IGA",
    "IPALite",
    "baselines",
    "datasets",
    "geometry",
    "get",
    "graph",
    "load",
    "metrics",
    "nn",
    "pl",
    "pp",
    "settings",
    "tl",
    "training",
]

_OBJECTS = {"IGA": "ipar.model", "IPALite": "ipar.model", "load": "ipar.model", "settings": "ipar._preferences"}
_MODULES = frozenset(__all__) - _OBJECTS.keys()


def __getattr__(name: str) -> Any:
    # torch and pyplot take seconds to import: a submodule is loaded when it is first used (PEP 562)
    if name in _MODULES:
        return importlib.import_module(f"ipar.{name}")
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    msg = f"module 'ipar' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
