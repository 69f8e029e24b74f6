"""Fitted models, on arrays, and their files."""

from ipar.model.blend import Blend
from ipar.model.encoder import GeometryEncoder
from ipar.model.flow import PoseSamples
from ipar.model.iga import IGA
from ipar.model.ipalite import IPALite
from ipar.model.loading import load
from ipar.model.outputs import Features, Layout
from ipar.model.placement import Placement
from ipar.model.reference import Reference
from ipar.model.scale import ExpressionScale
from ipar.model.sharpening import Sharpening

__all__ = [
    "IGA",
    "Blend",
    "ExpressionScale",
    "Features",
    "GeometryEncoder",
    "IPALite",
    "Layout",
    "Placement",
    "PoseSamples",
    "Reference",
    "Sharpening",
    "load",
]
