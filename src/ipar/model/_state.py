"""Encoders and IPA-Lite models as plain values: settings that JSON holds, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.model._consensus import ConsensusPlan
from ipar.model._encoder import Averaging, EncoderPart, GeometryEncoder
from ipar.model._ipalite import IPALite
from ipar.model._sharpen import Sharpening
from ipar.model._uncertainty import UncertaintyHead
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet, SetEncoder, SharedEncoder

if TYPE_CHECKING:
    from torch import nn

Arrays = dict[str, NDArray[Any]]
_SET_ENCODERS = "overview", "sketch"
_SET_SHAPE = "n_input", "width", "n_layers", "n_heads", "n_output"


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
    whole = {name: net for name in _SET_ENCODERS if (net := getattr(encoder, name)) is not None}
    config |= {name: {key: getattr(net, key) for key in _SET_SHAPE} for name, net in whole.items()}
    if encoder.overview is not None:
        config["overview_weight"] = encoder.overview_weight
    arrays: Arrays = {"loadings": encoder.loadings}
    for i, part in enumerate(encoder.parts):
        arrays |= module_arrays(part.net, f"part{i}")
    for name, net in whole.items():
        arrays |= module_arrays(net, name)
    return config, arrays


def encoder_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> GeometryEncoder:
    """The encoder of :func:`encoder_state`."""
    parts = []
    for i, part in enumerate(config["parts"]):
        with torch.random.fork_rng(devices=[]):  # making a layer draws its first weights
            net = SharedEncoder(part["n_input"], hidden=tuple(part["hidden"]), n_output=part["n_output"])
        load_module(net, arrays, f"part{i}")
        parts.append(EncoderPart(part["source"], net, tuple(part["terms"])))
    whole = {}
    for name in _SET_ENCODERS:
        if name in config:
            with torch.random.fork_rng(devices=[]):
                whole[name] = SetEncoder(**config[name])
            load_module(whole[name], arrays, name)
    loadings = np.asarray(arrays["loadings"], dtype=np.float32)
    return GeometryEncoder(
        genes=pd.Index(config["genes"]),
        loadings=loadings,
        parts=tuple(parts),
        record=dict(config["record"]),
        averaging=Averaging(**config["averaging"]),
        gene_scale=config["gene_scale"],
        overview_weight=config.get("overview_weight", 1.0),  # models from before there was a choice have 1
        **whole,
    )


def ipalite_state(model: IPALite) -> tuple[dict[str, Any], Arrays]:
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


def ipalite_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> IPALite:
    """The model of :func:`ipalite_state`."""
    with torch.random.fork_rng(devices=[]):
        net = IPALiteNet(IPALiteConfig(**config["net"]))
        gate = EdgeGate(net.config.d_input, net.config.gate_heads)
    load_module(net, arrays, "net")
    load_module(gate, arrays, "gate")
    encoder = encoder_from_state(config["encoder"], arrays_under(arrays, "encoder"))
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
