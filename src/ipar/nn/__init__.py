"""Networks: they know no data, no optimiser and no files."""

from ipar.nn._attention import attention_bias, masked_attention
from ipar.nn._block import IPALiteBlock
from ipar.nn._config import IPALiteConfig
from ipar.nn._encoder import SharedEncoder
from ipar.nn._gate import EdgeGate, EdgeMLP, dense_gate, edge_outputs
from ipar.nn._gaussian_attention import AttentionSignals, GaussianAttention, GaussianUpdateBlock
from ipar.nn._graph import CandidateGraph, DenseGraph, EdgeGraph, as_graph, graph_of
from ipar.nn._iga import IGABlock, IGACondition, IGANet, IGAOutput
from ipar.nn._iga_config import EllipseUnits, IGAConfig
from ipar.nn._ipalite import IPALiteNet, IPALiteOutput
from ipar.nn._pose_flow import follow_flow, noise_poses
from ipar.nn._set_encoder import SetEncoder

__all__ = [
    "AttentionSignals",
    "CandidateGraph",
    "DenseGraph",
    "EdgeGate",
    "EdgeGraph",
    "EdgeMLP",
    "EllipseUnits",
    "GaussianAttention",
    "GaussianUpdateBlock",
    "IGABlock",
    "IGACondition",
    "IGAConfig",
    "IGANet",
    "IGAOutput",
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
    "follow_flow",
    "graph_of",
    "masked_attention",
    "noise_poses",
]
