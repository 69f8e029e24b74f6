"""Fitted models, on arrays, and their files."""

from ipar.model.blend import Blend
from ipar.model.consensus import ConsensusPlan
from ipar.model.encoder import Features, GeometryEncoder
from ipar.model.flow import Flow, PoseSamples
from ipar.model.iga import IGA
from ipar.model.ipalite import IPALite
from ipar.model.loading import load
from ipar.model.network import NetworkLayout
from ipar.model.outputs import Attention, Layout
from ipar.model.sharpening import Sharpening
from ipar.model.uncertainty import UncertaintyHead

__all__ = [
    "IGA",
    "Attention",
    "Blend",
    "ConsensusPlan",
    "Features",
    "Flow",
    "GeometryEncoder",
    "IPALite",
    "Layout",
    "NetworkLayout",
    "PoseSamples",
    "Sharpening",
    "UncertaintyHead",
    "load",
]
