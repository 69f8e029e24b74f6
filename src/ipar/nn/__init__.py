"""Networks: they know no data, no optimiser and no files."""

from ipar.nn.config import IPALiteConfig
from ipar.nn.encoders import SetEncoder, SharedEncoder
from ipar.nn.gate import EdgeGate, dense_gate
from ipar.nn.graph import graph_of
from ipar.nn.iga import IGANet
from ipar.nn.iga_config import EllipseUnits, IGAConfig
from ipar.nn.ipalite import IPALiteNet

__all__ = [
    "EdgeGate",
    "EllipseUnits",
    "IGAConfig",
    "IGANet",
    "IPALiteConfig",
    "IPALiteNet",
    "SetEncoder",
    "SharedEncoder",
    "dense_gate",
    "graph_of",
]
