"""Networks: they know no data, no optimiser and no files."""

from ipar.nn._attention import attention_bias, masked_attention
from ipar.nn._config import IPALiteConfig
from ipar.nn._encoder import SharedEncoder
from ipar.nn._gate import EdgeGate, EdgeMLP, dense_gate, edge_outputs
from ipar.nn._graph import CandidateGraph, DenseGraph, EdgeGraph, as_graph, graph_of
from ipar.nn._ipalite import IPALiteBlock, IPALiteNet, IPALiteOutput
from ipar.nn._set_encoder import SetEncoder

__all__ = [
    "CandidateGraph",
    "DenseGraph",
    "EdgeGate",
    "EdgeGraph",
    "EdgeMLP",
    "IPALiteBlock",
    "IPALiteConfig",
    "IPALiteNet",
    "IPALiteOutput",
    "SetEncoder",
    "SharedEncoder",
    "as_graph",
    "attention_bias",
    "dense_gate",
    "edge_outputs",
    "graph_of",
    "masked_attention",
]
