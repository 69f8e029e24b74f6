"""Models as plain values and on disk: JSON for settings, safetensors for weights, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ipar.model._consensus import ConsensusPlan
from ipar.model._encoder import Averaging, EncoderPart, GeometryEncoder
from ipar.model._ipalite import IPALite
from ipar.model._sharpen import Sharpening
from ipar.model._uncertainty import UncertaintyHead
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet, SetEncoder, SharedEncoder

if TYPE_CHECKING:
    from torch import nn

FORMAT = "ipar.IPALite"
FORMAT_VERSION = 3
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

Arrays = dict[str, NDArray[Any]]


def module_arrays(module: nn.Module, prefix: str) -> Arrays:
    """Weights of a module as numpy arrays under prefixed names."""
    return {f"{prefix}.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Fill a module from :func:`module_arrays`."""
    start = f"{prefix}."
    own = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
    module.eval()


def encoder_state(encoder: GeometryEncoder) -> tuple[dict[str, Any], Arrays]:
    """Settings and arrays of an encoder."""
    config = {
        "genes": encoder.genes.tolist(),
        "record": encoder.record,
        "averaging": asdict(encoder.averaging),
        "gene_scale": encoder.gene_scale,
        "parts": [
            {
                "source": part.source,
                "terms": list(part.terms),
                "n_input": part.net.n_input,
                "hidden": list(part.net.hidden),
                "n_output": part.net.n_output,
            }
            for part in encoder.parts
        ],
    }
    if encoder.overview is not None:
        names = ("n_input", "width", "n_layers", "n_heads", "n_output")
        config["overview"] = {name: getattr(encoder.overview, name) for name in names}
    arrays: Arrays = {"loadings": encoder.loadings}
    for i, part in enumerate(encoder.parts):
        arrays |= module_arrays(part.net, f"part{i}")
    if encoder.overview is not None:
        arrays |= module_arrays(encoder.overview, "overview")
    return config, arrays


def encoder_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GeometryEncoder:
    """The encoder of :func:`encoder_state`."""
    parts = []
    for i, part in enumerate(config["parts"]):
        with torch.random.fork_rng(devices=[]):  # making a layer draws its first weights
            net = SharedEncoder(part["n_input"], hidden=tuple(part["hidden"]), n_output=part["n_output"])
        load_module(net, arrays, f"part{i}")
        parts.append(EncoderPart(part["source"], net, tuple(part["terms"])))
    overview = None
    if "overview" in config:
        with torch.random.fork_rng(devices=[]):
            overview = SetEncoder(**config["overview"])
        load_module(overview, arrays, "overview")
    loadings = np.asarray(arrays["loadings"], dtype=np.float32)
    return GeometryEncoder(
        genes=pd.Index(config["genes"]),
        loadings=loadings,
        parts=tuple(parts),
        record=dict(config["record"]),
        averaging=Averaging(**config["averaging"]),
        gene_scale=config["gene_scale"],
        overview=overview,
    )


def model_state(model: IPALite) -> tuple[dict[str, Any], Arrays]:
    """Settings and arrays of a model."""
    encoder_config, encoder_arrays = encoder_state(model.encoder)
    config = {
        "encoder": encoder_config,
        "net": model.net.config.to_dict(),
        "beta": model.beta,
        "n_neighbors": model.n_neighbors,
        "plan": asdict(model.plan),
        "global_weight": model.global_weight,
        "sharpening": None if model.sharpening is None else asdict(model.sharpening),
        "uncertainty": None,
        "record": model.record,
    }
    arrays = {f"encoder.{name}": value for name, value in encoder_arrays.items()}
    if model.uncertainty is not None:
        numbers, own = _uncertainty_state(model.uncertainty)
        config["uncertainty"] = numbers
        arrays |= own
    return config, arrays | module_arrays(model.net, "net") | module_arrays(model.gate, "gate")


def model_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> IPALite:
    """The model of :func:`model_state`."""
    with torch.random.fork_rng(devices=[]):
        net = IPALiteNet(IPALiteConfig(**config["net"]))
        gate = EdgeGate(net.config.d_input, net.config.gate_heads)
    load_module(net, arrays, "net")
    load_module(gate, arrays, "gate")
    start = "encoder."
    own = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
    encoder = encoder_from_state(config["encoder"], own)
    plan = ConsensusPlan(**config["plan"])
    return IPALite(
        encoder=encoder,
        net=net,
        gate=gate,
        beta=config["beta"],
        n_neighbors=config["n_neighbors"],
        plan=plan,
        record=dict(config["record"]),
        global_weight=config["global_weight"],
        sharpening=None if config["sharpening"] is None else Sharpening(**config["sharpening"]),
        uncertainty=_uncertainty_from_state(config.get("uncertainty"), arrays),
    )


_HEAD_ARRAYS = ("centre", "axes", "landmarks", "weights", "knots")


def _uncertainty_state(head: UncertaintyHead) -> tuple[dict[str, float], Arrays]:
    arrays = {f"uncertainty.{name}": np.asarray(getattr(head, name)) for name in _HEAD_ARRAYS}
    return {"intercept": head.intercept, "gamma": head.gamma}, arrays


def _uncertainty_from_state(
    numbers: Mapping[str, float] | None, arrays: Mapping[str, NDArray[Any]]
) -> UncertaintyHead | None:
    if numbers is None:
        return None
    own: Any = {name: np.asarray(arrays[f"uncertainty.{name}"]) for name in _HEAD_ARRAYS}
    return UncertaintyHead(intercept=numbers["intercept"], gamma=numbers["gamma"], **own)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(config: Any) -> bytes:
    return json.dumps(config, sort_keys=True).encode()


def write_model(model: IPALite, path: Path) -> None:
    """Write a model's directory; see :meth:`IPALite.save`."""
    from ipar import __version__

    if path.exists() and not (path.is_dir() and ((path / _CONFIG).is_file() or not any(path.iterdir()))):
        msg = f"{path} exists and is not a model's directory: choose another path, or remove it."
        raise FileExistsError(msg)
    config, arrays = model_state(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, staging / _WEIGHTS)
        head = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
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


def load(path: str | Path) -> IPALite:
    """Read a model that :meth:`IPALite.save` wrote.

    Parameters
    ----------
    path
        Its directory.

    Returns
    -------
    IPALite
        The model, ready to predict.

    Raises
    ------
    FileNotFoundError
        If there is no model at ``path``.
    ValueError
        If it is truncated, of another version, or was changed after it was written.
    """
    path = Path(path)
    if not (path / _CONFIG).is_file():
        msg = f"No ipar model at {path}: expected a directory with {_CONFIG} and {_WEIGHTS}, as model.save() writes it."
        raise FileNotFoundError(msg)
    config = _read_config(path)
    try:
        return model_from_state(config["config"], _read_weights(path, config["weights_sha256"]))
    except (KeyError, TypeError, RuntimeError) as error:
        msg = f"The model at {path} is not complete ({error}): save it again from the fitted model."
        raise ValueError(msg) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        head = json.loads((path / _CONFIG).read_text())
        found = (head["format"], head["format_version"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"{path / _CONFIG} is truncated or not of an ipar model ({error}): save the model again."
        raise ValueError(msg) from error
    if found != (FORMAT, FORMAT_VERSION):
        msg = (
            f"The model at {path} has format {found[0]} version {found[1]}, this ipar reads {FORMAT} version "
            f"{FORMAT_VERSION}: load it with ipar {head.get('ipar_version')}, or fit it again."
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
