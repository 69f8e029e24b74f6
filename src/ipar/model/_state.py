"""Encoders as plain values: settings that JSON holds, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.model._encoder import Averaging, EncoderPart, GeometryEncoder
from ipar.nn import SetEncoder, SharedEncoder

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
    config: dict[str, Any] = {
        "genes": encoder.genes.tolist(),
        "record": encoder.record,
        "averaging": asdict(encoder.averaging),
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
    if encoder.gene_scale is not None:
        arrays["gene_scale"] = encoder.gene_scale
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
    known = config.get("gene_scale", arrays.get("gene_scale"))  # models from before genes were weighted have one number
    return GeometryEncoder(
        genes=pd.Index(config["genes"]),
        loadings=loadings,
        parts=tuple(parts),
        record=dict(config["record"]),
        averaging=Averaging(**config["averaging"]),
        gene_scale=None if known is None else np.full(len(config["genes"]), 1, dtype=np.float32) * known,
        overview_weight=config.get("overview_weight", 1.0),  # models from before there was a choice have 1
        **whole,
    )
