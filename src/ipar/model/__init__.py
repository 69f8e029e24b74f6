"""Fitted models, on arrays, and their files."""

from ipar.model._blend import Blend
from ipar.model._consensus import ConsensusPlan
from ipar.model._encoder import Features, GeometryEncoder
from ipar.model._flow import Flow, PoseSamples
from ipar.model._iga import IGA
from ipar.model._ipalite import IPALite
from ipar.model._load import load
from ipar.model._network import NetworkLayout
from ipar.model._outputs import Attention, Layout
from ipar.model._sharpen import Sharpening
from ipar.model._uncertainty import UncertaintyHead

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
