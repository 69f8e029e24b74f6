"""Networks as plain arrays. Every fitted object has ``state()`` and ``from_state()``: settings that JSON holds, and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from ipar._files import directory_of, replaced_directory, restore, sync
from ipar._space import check_space
from ipar.model.checks import check_contents, check_version, checked_record, contents

M = TypeVar("M", bound=nn.Module)
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


def loaded_module(make: Callable[[], M], arrays: Mapping[str, NDArray[Any]], prefix: str) -> M:
    """The module that ``make`` makes, with the weights of :func:`module_arrays`.

    It is made without memory, and without random weights that would be overwritten: sizes are compared first.

    Raises
    ------
    ValueError
        If the arrays are of a module of another shape.
    """
    own = arrays_under(arrays, prefix)
    with torch.device("meta"):
        module = make()
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name in sorted(expected.keys() | own.keys()):
        found = np.shape(own[name]) if name in own else None
        if expected.get(name) == () and found == (1,):  # as models of old have numbers
            own[name] = own[name][0]
        elif expected.get(name) != found:
            msg = f"{prefix}.{name} has shape {found}, the settings say {expected.get(name)}"
            raise ValueError(msg)
    weights = {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in own.items()}
    module.load_state_dict(weights, assign=True)
    module.eval()
    return module


def joined(**parts: State) -> State:
    """One state of several named ones."""
    config = {name: part[0] for name, part in parts.items()}
    return config, {f"{name}.{key}": value for name, part in parts.items() for key, value in part[1].items()}


CONFIG, WEIGHTS = "config.json", "model.safetensors"
_WHAT = "a model's directory"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(config: Any) -> bytes:
    return json.dumps(config, sort_keys=True).encode()


def write_directory(path: str | Path, kind: str, version: int, state: State) -> None:
    """Write a model's directory as a whole or not at all; see :meth:`SavedModel.save`."""
    from ipar import __version__

    config, arrays = state
    weights = save({name: np.asarray(value, order="C") for name, value in arrays.items()})
    head = {
        "format": kind,
        "format_version": version,
        "ipar_version": __version__,
        "config_sha256": _digest(_canonical(config)),
        "weights_sha256": _digest(weights),
        "arrays": contents(arrays),
        "config": config,
    }
    files = {WEIGHTS: weights, CONFIG: json.dumps(head, indent=1).encode()}
    size = sum(map(len, files.values()))
    check_directory(path)
    check_space(path, size)
    with replaced_directory(path, is_model, _WHAT, size=size) as staging:
        for name, content in files.items():
            (staging / name).write_bytes(content)
            sync(staging / name)


def check_directory(path: str | Path) -> None:
    """Raise what :meth:`SavedModel.save` would raise, before there is a model."""
    directory_of(path, is_model, _WHAT)


def is_model(path: Path) -> bool:
    """Whether a directory is a model's, and holds nothing else that would be lost."""
    if {one.name for one in path.iterdir()} - {CONFIG, WEIGHTS} or not (path / CONFIG).is_file():
        return False
    start = (path / CONFIG).read_bytes()[:200]
    return not start.strip(b"\0") or b'"format": "ipar.' in start  # an empty one is of a machine that lost power


def read_directory(path: Path, versions: Mapping[str, int]) -> tuple[str, State]:
    """Kind and state of the model in a directory, verified; ``versions`` are those of the kinds that can be read.

    Where another model takes its place meanwhile, both files are read again.

    Raises
    ------
    FileNotFoundError
        If there is no model at ``path``.
    ValueError
        If it is truncated, of another version, or was changed after it was written.
    """
    restore(path)
    head, weights = _read_bytes(path, CONFIG), _read_bytes(path, WEIGHTS)
    while (now := _read_bytes(path, CONFIG)) != head:
        head, weights = now, _read_bytes(path, WEIGHTS)
    if head is None:
        msg = f"No ipar model at {path}: expected a directory with {CONFIG} and {WEIGHTS}, as model.save() writes it."
        raise FileNotFoundError(msg)
    settings = _read_config(path, head, versions)
    return settings["format"], (settings["config"], _read_weights(path / WEIGHTS, weights, settings))


def _read_bytes(path: Path, name: str) -> bytes | None:
    try:
        return (path / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        msg = f"{path / name} cannot be read ({error.strerror}): look at its permissions."
        raise type(error)(error.errno, msg) from error


def _read_config(path: Path, content: bytes, versions: Mapping[str, int]) -> dict[str, Any]:
    file = path / CONFIG
    try:
        head = json.loads(content)
        found = (str(head["format"]), head["format_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"{file} is truncated or not of an ipar model ({error}): save the model again."
        raise ValueError(msg) from error
    check_version(f"The model at {path}", found, versions, head.get("ipar_version"))
    if _digest(_canonical(head.get("config"))) != head.get("config_sha256"):
        msg = f"{file} was changed after it was written: weights and settings no longer belong together. Save the model again."
        raise ValueError(msg)
    return dict(head)


def _read_weights(file: Path, content: bytes | None, head: Mapping[str, Any]) -> Arrays:
    if content is None:
        msg = (
            f"The model at {file.parent} has no {WEIGHTS}: the copy is not complete. Copy the whole directory, or save "
            "again."
        )
        raise ValueError(msg)
    if _digest(content) != head.get("weights_sha256"):
        msg = f"{file} is truncated or was changed: its checksum differs from the one written. Copy or save it again."
        raise ValueError(msg)
    try:
        arrays = dict(load(content))
        check_contents(arrays, head.get("arrays", contents(arrays)))  # older ones have no list
    except (SafetensorError, ValueError) as error:
        msg = f"{file} cannot be used ({error}): save the model again, or fit it again."
        raise ValueError(msg) from error
    return arrays


def plain(stage: Any) -> dict[str, Any]:
    """A fitted object as values that AnnData can hold and write."""
    config, arrays = stage.state()
    return {"config": json.dumps(config), "contents": json.dumps(contents(arrays)), "arrays": arrays}


def of_plain(kind: Any, found: Mapping[str, Any]) -> Any:
    """The object of a kind that :func:`plain` gave."""
    check_contents(found["arrays"], json.loads(found["contents"]))
    return kind.from_state(json.loads(found["config"]), found["arrays"])


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
            If the path exists and is not a model's directory, or holds other files.
        OSError
            If it cannot be written; the message says why.
        """
        write_directory(path, self.kind, self.version, self.state())

    def state(self) -> State:
        """Settings and arrays."""
        found = {name: getattr(self, name) for name in self.stages}
        config, arrays = joined(**{name: stage.state() for name, stage in found.items() if stage is not None})
        return {**config, "record": self.record}, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The model of :meth:`state`."""
        for name in {name.partition(".")[0] for name in arrays} | (config.keys() - {"record"}):
            if name not in cls.stages or name not in config:
                msg = f"part {name} is {'missing' if name in cls.stages else 'not known'}"
                raise ValueError(msg)
        made: dict[str, Any] = {
            name: kind.from_state(config[name], arrays_under(arrays, name))
            for name, kind in cls.stages.items()
            if name in config
        }
        made["record"] = checked_record(config["record"])
        return cls(**made)
