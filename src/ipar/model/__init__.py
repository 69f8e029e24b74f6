"""Fitted models, on arrays, and their files."""

from ipar.model._consensus import ConsensusPlan
from ipar.model._encoder import GeometryEncoder, Views
from ipar.model._iga import IGA, PoseSamples
from ipar.model._io import load
from ipar.model._ipalite import IPALite
from ipar.model._outputs import Attention, Layout
from ipar.model._sharpen import Sharpening
from ipar.model._uncertainty import UncertaintyHead

__all__ = [
    "IGA",
    "Attention",
    "ConsensusPlan",
    "GeometryEncoder",
    "IPALite",
    "Layout",
    "PoseSamples",
    "Sharpening",
    "UncertaintyHead",
    "Views",
    "load",
]
