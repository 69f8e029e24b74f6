"""Networks: they know no data, no optimiser and no files."""

from ipar.nn.config import IPALiteConfig
from ipar.nn.encoders import SetEncoder, SharedEncoder
from ipar.nn.gate import EdgeGate
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
]
