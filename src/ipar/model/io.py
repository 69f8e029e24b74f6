"""Networks as plain arrays. Every fitted object has ``state()`` and ``from_state()``: settings that JSON holds, and arrays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from torch import nn

Arrays = dict[str, NDArray[Any]]
State = tuple[dict[str, Any], Arrays]
"""Settings that JSON holds, and arrays by name."""


def module_arrays(module: nn.Module, prefix: str) -> Arrays:
    """Weights of a module as numpy arrays under prefixed names."""
    return {f"{prefix}.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def arrays_under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Those arrays whose names start with a prefix and a dot, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def load_module(module: nn.Module, arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Fill a module from :func:`module_arrays`."""
    own = arrays_under(arrays, prefix)
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
    module.eval()


def joined(**parts: State) -> State:
    """One state of several named ones."""
    config = {name: part[0] for name, part in parts.items()}
    return config, {f"{name}.{key}": value for name, part in parts.items() for key, value in part[1].items()}


_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(config: Any) -> bytes:
    return json.dumps(config, sort_keys=True).encode()


def write_directory(path: Path, kind: str, version: int, state: State) -> None:
    """Write a model's directory as a whole or not at all; see :meth:`SavedModel.save`."""
    from ipar import __version__

    if path.exists() and not (path.is_dir() and ((path / _CONFIG).is_file() or not any(path.iterdir()))):
        msg = f"{path} exists and is not a model's directory: choose another path, or remove it."
        raise FileExistsError(msg)
    config, arrays = state
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, staging / _WEIGHTS)
        head = {
            "format": kind,
            "format_version": version,
            "ipar_version": __version__,
            "config_sha256": _digest(_canonical(config)),
            "weights_sha256": _digest((staging / _WEIGHTS).read_bytes()),
            "config": config,
        }
        (staging / _CONFIG).write_text(json.dumps(head, indent=1))
        staging.chmod(0o755)
        _swap_in(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap_in(staging: Path, path: Path) -> None:
    """Put a finished directory in place of an old one, which comes back if anything, ctrl-C too, comes between."""
    if not path.exists():
        os.replace(staging, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    try:
        os.replace(path, old)
        os.replace(staging, path)
    except BaseException:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_directory(path: Path, versions: Mapping[str, int]) -> tuple[str, State]:
    """Kind and state of the model in a directory, verified; ``versions`` are those of the kinds that can be read.

    Raises
    ------
    FileNotFoundError
        If there is no model at ``path``.
    ValueError
        If it is truncated, of another version, or was changed after it was written.
    """
    if not (path / _CONFIG).is_file():
        msg = f"No ipar model at {path}: expected a directory with {_CONFIG} and {_WEIGHTS}, as model.save() writes it."
        raise FileNotFoundError(msg)
    head = _read_config(path, versions)
    return head["format"], (head["config"], _read_weights(path, head["weights_sha256"]))


def _read_config(path: Path, versions: Mapping[str, int]) -> dict[str, Any]:
    try:
        head = json.loads((path / _CONFIG).read_text())
        found = (head["format"], head["format_version"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"{path / _CONFIG} is truncated or not of an ipar model ({error}): save the model again."
        raise ValueError(msg) from error
    if found not in versions.items():
        readable = " and ".join(f"{kind} version {version}" for kind, version in versions.items())
        msg = (
            f"The model at {path} has format {found[0]} version {found[1]}, this ipar reads {readable}: load it with ipar "
            f"{head.get('ipar_version')}, or fit it again."
        )
        raise ValueError(msg)
    if _digest(_canonical(head.get("config"))) != head.get("config_sha256"):
        msg = f"{path / _CONFIG} was changed after it was written: weights and settings no longer belong together. Save the model again."
        raise ValueError(msg)
    return dict(head)


def _read_weights(path: Path, expected: str) -> Arrays:
    weights = path / _WEIGHTS
    if not weights.is_file():
        msg = (
            f"The model at {path} has no {_WEIGHTS}: the copy is not complete. Copy the whole directory, or save again."
        )
        raise ValueError(msg)
    if _digest(weights.read_bytes()) != expected:
        msg = (
            f"{weights} is truncated or was changed: its checksum differs from the one written. Copy or save it again."
        )
        raise ValueError(msg)
    try:
        return dict(load_file(weights))
    except SafetensorError as error:  # pragma: no cover - the checksum catches it first
        msg = f"{weights} cannot be read ({error})."
        raise ValueError(msg) from error


class SavedModel:
    """A model of fitted stages, which goes to a directory and back."""

    kind: ClassVar[str]
    version: ClassVar[int]
    stages: ClassVar[dict[str, Any]]
    """Names of the fields that hold fitted stages, and their classes; a stage may be None."""
    record: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write the model to a directory: JSON for settings and genes, safetensors for weights.

        The directory is replaced as a whole or not at all.

        Parameters
        ----------
        path
            Directory. It is made where it is missing, and replaced where it holds a model.

        Raises
        ------
        FileExistsError
            If the path exists and is not a model's directory.
        """
        write_directory(Path(path), self.kind, self.version, self.state())

    def state(self) -> State:
        """Settings and arrays."""
        found = {name: getattr(self, name) for name in self.stages}
        config, arrays = joined(**{name: stage.state() for name, stage in found.items() if stage is not None})
        return {**config, "record": self.record}, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The model of :meth:`state`."""
        made: dict[str, Any] = {
            name: kind.from_state(config[name], arrays_under(arrays, name))
            for name, kind in cls.stages.items()
            if name in config
        }
        made["record"] = dict(config["record"])
        return cls(**made)
