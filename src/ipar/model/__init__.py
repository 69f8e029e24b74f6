"""The fitted model, on arrays, and its files."""

from ipar.model._consensus import ConsensusPlan
from ipar.model._encoder import GeometryEncoder
from ipar.model._io import load
from ipar.model._ipalite import Attention, IPALite, Layout

__all__ = ["Attention", "ConsensusPlan", "GeometryEncoder", "IPALite", "Layout", "load"]
