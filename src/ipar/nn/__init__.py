"""Networks: they know no data, no optimiser and no files."""

from ipar.nn._attention import attention_bias, masked_attention
from ipar.nn._encoder import SharedEncoder
from ipar.nn._gate import EdgeGate, dense_gate
from ipar.nn._ipalite import IPALiteBlock, IPALiteConfig, IPALiteNet, IPALiteOutput

__all__ = [
    "EdgeGate",
    "IPALiteBlock",
    "IPALiteConfig",
    "IPALiteNet",
    "IPALiteOutput",
    "SharedEncoder",
    "attention_bias",
    "dense_gate",
    "masked_attention",
]
