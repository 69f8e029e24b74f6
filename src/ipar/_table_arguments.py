"""SpatialData in the place of AnnData: which arguments of a call name a table, and what the call is given of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ipar._anndata import embed_record
from ipar._element_images import ElementImages
from ipar._options import check
from ipar._spatialdata import (
    Annotation,
    SpatialData,
    element_coordinates,
    element_outlines,
    get_table,
    is_spatialdata,
    with_table,
)

if TYPE_CHECKING:
    from anndata import AnnData

_OF_TABLE, _EITHER = r"\bAnnData\b", "AnnData | SpatialData"
_HINTS: dict[str, Any] = {"table_key": str, "coordinate_system": str | None}
_DEFAULTS: dict[str, Any] = {"table_key": "table", "coordinate_system": None}


@dataclass(frozen=True)
class TableParameters:
    """Parameters of a function that take an AnnData, and the one that names its coordinates.

    Attributes
    ----------
    tables
        Names of parameters, none for functions on arrays.
    coords
        Parameter with the key of coordinates in ``obsm``, if there is one.
    """

    tables: tuple[str, ...]
    coords: str | None

    @classmethod
    def of(cls, signature: inspect.Signature) -> TableParameters:
        """Read them from type hints."""
        found = signature.parameters
        tables = tuple(name for name, one in found.items() if re.search(_OF_TABLE, str(one.annotation)))
        coords = next((n for n in ("spatial_key", "use_rep") if n in found and found[n].default == "spatial"), None)
        return cls(tables, "spatial_key" if "spatial_key" in found else coords)

    @property
    def located(self) -> tuple[str, ...]:
        """Those whose coordinates are read: cells beside a section are what has none."""
        return ("section",) if "section" in self.tables else self.tables

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the parameters that a SpatialData needs beside those of an AnnData."""
        names = ("table_key", *(("coordinate_system",) if self.coords else ()))
        return names if self.tables else ()

    def widened(self, signature: inspect.Signature) -> inspect.Signature:
        """The signature with these parameters."""
        parameters = [
            one.replace(annotation=re.sub(_OF_TABLE, _EITHER, str(one.annotation))) if one.name in self.tables else one
            for one in signature.parameters.values()
        ]
        end = len(parameters) - sum(one.kind is one.VAR_KEYWORD for one in parameters)
        hints = {"table_key": "str", "coordinate_system": "str | None"}
        parameters[end:end] = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=hints[name])
            for name in self.added
        ]
        returned = re.sub(_OF_TABLE, _EITHER, str(signature.return_annotation))
        copies = "copy" in signature.parameters
        return signature.replace(
            parameters=parameters, return_annotation=returned if copies else signature.return_annotation
        )

    def taken(self, keywords: MutableMapping[str, Any]) -> dict[str, Any]:
        """Take the added arguments out of the keywords of a call, checked."""
        found = {name: keywords.pop(name) for name in self.added if name in keywords}
        for name, value in found.items():
            check(name, value, _HINTS[name])
        return found


class TablesOfCall:
    """The SpatialData of one call.

    Parameters
    ----------
    parameters
        Of the function.
    arguments
        Of the call: each SpatialData is replaced by its table.
    named
        Arguments of :attr:`TableParameters.added` that were given.
    """

    def __init__(self, parameters: TableParameters, arguments: MutableMapping[str, Any], named: dict[str, Any]) -> None:
        options = _DEFAULTS | named
        self.table_key, self.system = options["table_key"], options["coordinate_system"]
        self.parameters, self.arguments = parameters, arguments
        self.found: dict[str, SpatialData] = {
            name: arguments[name] for name in parameters.tables if is_spatialdata(arguments.get(name))
        }
        if named and not self.found:
            msg = f"{' and '.join(named)} must be given for a SpatialData only, found none: leave it out."
            raise ValueError(msg)
        for name, sdata in self.found.items():
            arguments[name] = get_table(sdata, self.table_key)
        self._own: dict[str, tuple[str, Any]] = {}  # coordinates in whose place others are lent

    @contextmanager
    def coordinates(self) -> Iterator[None]:
        """Slides, outlines and coordinates from the elements that the tables annotate; the tables keep their own."""
        with ExitStack() as stack:
            for name, sdata in self.found.items():
                table = self.arguments[name]
                annotation = Annotation.of(table)
                if "library_key" in self.arguments and annotation is not None:
                    recorded = embed_record(table).get("library_key")
                    self.arguments["library_key"] = self.arguments["library_key"] or recorded or annotation.slide_key
                key = self._lent_key(sdata, table, annotation) if name in self.parameters.located else None
                self._outline(sdata, table, move=key is not None)
                if name in self.parameters.located and self.arguments.get("img", False) is not False:
                    needed = self.arguments["img"] is True
                    self.arguments["img"] = ElementImages(sdata, table, self.system, needed)
                if key is not None:
                    self._own[name] = key, table.obsm.get(key)
                    stack.callback(_put, table, *self._own[name])
                    table.obsm[key] = element_coordinates(sdata, table, self.system)
            yield

    def returned(self, result: Any) -> Any:
        """What a call returns: of a changed copy of a table, a SpatialData that has it."""
        if not self.found or not self.arguments.get("copy"):
            return result
        tables = {name: get_table(sdata, self.table_key) for name, sdata in self.found.items()}
        name = next((name for name, one in tables.items() if one.obs_names.equals(result.obs_names)), None)
        if name is None:
            return result
        if name in self._own:
            key, values = self._own[name]
            _put(result, key, None if values is None else values.copy())
        return with_table(self.found[name], self.table_key, result)

    def _lent_key(self, sdata: SpatialData, table: AnnData, annotation: Annotation | None) -> str | None:
        """The key of coordinates that are to come from elements: those that were asked for, or are missing."""
        key = self.arguments.get(self.parameters.coords or "")
        if key is None or self.system is not None:
            return key
        there = annotation is not None and all(region in sdata for region in annotation.regions)
        return key if there and key not in table.obsm else None

    def _outline(self, sdata: SpatialData, table: AnnData, *, move: bool) -> None:
        """Outlines of cells, for functions that take them, of the shapes that are named."""
        shapes_key = self.arguments.get("shapes_key")
        if shapes_key is not None and self.arguments["shapes"] is None:
            self.arguments["shapes"] = element_outlines(sdata, table, shapes_key, self.system, move=move)
            self.arguments["shapes_key"] = None


def _put(adata: AnnData, key: str, values: Any) -> None:
    """Coordinates as they were, or none."""
    if values is None:
        adata.obsm.pop(key, None)
    else:
        adata.obsm[key] = values
