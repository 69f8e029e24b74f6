"""Networks: they know no data, no optimiser and no files."""

from ipar.nn.block import IPALiteBlock, attention_bias, masked_attention
from ipar.nn.config import IPALiteConfig
from ipar.nn.encoders import SetEncoder, SharedEncoder
from ipar.nn.gate import EdgeGate, EdgeMLP, dense_gate, edge_outputs
from ipar.nn.gaussian_attention import AttentionSignals, GaussianAttention, GaussianUpdateBlock
from ipar.nn.graph import CandidateGraph, DenseGraph, EdgeGraph, as_graph, graph_of
from ipar.nn.iga import IGABlock, IGACondition, IGANet, IGAOutput
from ipar.nn.iga_config import EllipseUnits, IGAConfig
from ipar.nn.ipalite import IPALiteNet, IPALiteOutput
from ipar.nn.pose_flow import follow_flow, noise_poses

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
