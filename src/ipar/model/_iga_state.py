"""IGA models as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from numpy.typing import NDArray

from ipar.model._encoder import GeometryEncoder
from ipar.model._iga import IGA
from ipar.model._sharpen import Sharpening
from ipar.model._state import Arrays, arrays_under, encoder_from_state, encoder_state, load_module, module_arrays
from ipar.nn import EdgeGate, IGAConfig, IGANet


def iga_state(model: IGA) -> tuple[dict[str, Any], Arrays]:
    """Settings and arrays of a model."""
    encoder_config, encoder_arrays = encoder_state(model.encoder)
    config, arrays = flow_state(model)
    return {"encoder": encoder_config, **config}, {f"encoder.{k}": x for k, x in encoder_arrays.items()} | arrays


def iga_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> IGA:
    """The model of :func:`iga_state`."""
    return flow_from_state(config, arrays, encoder_from_state(config["encoder"], arrays_under(arrays, "encoder")))


def flow_state(model: IGA) -> tuple[dict[str, Any], Arrays]:
    """Settings and arrays of a model but for its encoder."""
    config = {
        "net": model.net.config.to_dict(),
        "n_neighbors": model.n_neighbors,
        "set_size": list(model.set_size),
        "sharpening": None if model.sharpening is None else asdict(model.sharpening),
        "record": model.record,
    }
    return config, module_arrays(model.net, "net") | module_arrays(model.gate, "gate")


def flow_from_state(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], encoder: GeometryEncoder) -> IGA:
    """The model of :func:`flow_state`, with its encoder."""
    with torch.random.fork_rng(devices=[]):  # making a layer draws its first weights
        net = IGANet(IGAConfig.from_dict(config["net"]))
        gate = EdgeGate(net.config.d_input)
    load_module(net, arrays, "net")
    load_module(gate, arrays, "gate")
    smallest, largest = config["set_size"]
    sharpening = config.get("sharpening")  # models from before there was a choice have none
    return IGA(
        encoder=encoder,
        net=net,
        gate=gate,
        n_neighbors=config["n_neighbors"],
        set_size=(smallest, largest),
        sharpening=None if sharpening is None else Sharpening(**sharpening),
        record=dict(config["record"]),
    )
