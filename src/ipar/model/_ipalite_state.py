"""IPA-Lite models as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ipar.model._consensus import ConsensusPlan
from ipar.model._iga_state import flow_from_state, flow_state
from ipar.model._ipalite import FLOW_WEIGHT, IPALite
from ipar.model._sharpen import Sharpening
from ipar.model._state import Arrays, arrays_under, encoder_from_state, encoder_state, load_module, module_arrays
from ipar.model._uncertainty import UncertaintyHead
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet


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
    if model.flow is not None:
        config["flow"], own = flow_state(model.flow)
        config["flow_weight"] = model.flow_weight
        arrays |= {f"flow.{name}": value for name, value in own.items()}
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
    flow = flow_from_state(config["flow"], arrays_under(arrays, "flow"), encoder) if "flow" in config else None
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
        flow=flow,
        flow_weight=config.get("flow_weight", FLOW_WEIGHT),
    )


_HEAD_ARRAYS = ("centre", "axes", "landmarks", "weights", "knots")


def _uncertainty_state(head: UncertaintyHead) -> tuple[dict[str, float], Arrays]:
    arrays = {f"uncertainty.{name}": np.asarray(getattr(head, name)) for name in _HEAD_ARRAYS}
    if head.joint is not None:
        arrays["uncertainty.joint"] = head.joint
    return {"intercept": head.intercept, "gamma": head.gamma}, arrays


def _uncertainty_from_state(
    numbers: Mapping[str, float] | None, arrays: Mapping[str, NDArray[Any]]
) -> UncertaintyHead | None:
    if numbers is None:
        return None
    own: Any = {name: np.asarray(arrays[f"uncertainty.{name}"]) for name in _HEAD_ARRAYS}
    own["joint"] = np.asarray(arrays["uncertainty.joint"]) if "uncertainty.joint" in arrays else None
    return UncertaintyHead(intercept=numbers["intercept"], gamma=numbers["gamma"], **own)
