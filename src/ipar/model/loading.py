"""Models from files and from plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ipar._files import as_path
from ipar._settings import own_settings
from ipar.model.checks import check_version, understood
from ipar.model.iga import IGA
from ipar.model.io import CONFIG, of_plain, plain, read_directory
from ipar.model.ipalite import IPALite

_KINDS: dict[str, type[IPALite] | type[IGA]] = {one.kind: one for one in (IPALite, IGA)}


def _versions() -> dict[str, int]:
    return {name: one.version for name, one in _KINDS.items()}


def plain_model(model: IPALite | IGA) -> dict[str, Any]:
    """A model as values that AnnData can hold and write."""
    return {"format": model.kind, "format_version": model.version} | plain(model)


def model_of_plain(found: Any, where: str) -> IPALite | IGA:
    """The model of :func:`plain_model`; ``where`` it was found, for messages.

    Raises
    ------
    ValueError
        If it is of another version, or not complete.
    """
    with understood(where, "fit it again"):
        kind = str(found["format"])
        version = int(found["format_version"]) if "format_version" in found else "unknown"
    check_version(where, (kind, version), _versions(), None)
    with understood(where, "fit it again"):
        return cast(IPALite | IGA, of_plain(_KINDS[kind], found))


@own_settings()
def load(path: str | Path) -> IPALite | IGA:
    """Read a model that :meth:`IPALite.save` or :meth:`IGA.save` wrote.

    Parameters
    ----------
    path
        Its directory.

    Returns
    -------
    IPALite or IGA
        The model, ready to predict.

    Raises
    ------
    FileNotFoundError
        If there is no model at ``path``.
    PermissionError
        If its files must not be read.
    TypeError
        If ``path`` is not a path.
    ValueError
        If the model is truncated, of another version, or was changed after it was written. The message names the file.
    """
    where = as_path(path, "name the model's directory")
    kind, state = read_directory(where, _versions())
    with understood(f"{where / CONFIG}: the model", "save it again from the fitted model, or fit it again"):
        return _KINDS[kind].from_state(*state)
