"""Models from files and from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ipar.model.iga import IGA
from ipar.model.io import read_directory
from ipar.model.ipalite import IPALite

_KINDS: dict[str, type[IPALite] | type[IGA]] = {one.kind: one for one in (IPALite, IGA)}


def model_from_state(kind: str, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> IPALite | IGA:
    """The model whose ``state()`` this is."""
    return _KINDS[kind].from_state(config, arrays)


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
    ValueError
        If it is truncated, of another version, or was changed after it was written.
    """
    try:
        kind, state = read_directory(Path(path), {name: one.version for name, one in _KINDS.items()})
        return model_from_state(kind, *state)
    except (KeyError, TypeError, RuntimeError) as error:
        msg = f"The model at {path} is not complete ({error}): save it again from the fitted model."
        raise ValueError(msg) from error
