"""Minisets, losses, training loops and the localisability check; nothing here knows AnnData."""

from ipar.training._axes import component_axes
from ipar.training._diagnostics import ProbeSet, diagnose, probe_set
from ipar.training._encoder import EncoderTraining, global_loss, local_loss, train_encoder
from ipar.training._epochs import Trained
from ipar.training._experiments import decompose_gap, shuffle_controls
from ipar.training._fit_embedding import EmbeddingFit, fit_embedding
from ipar.training._fit_encoder import EncoderRecipe, Slide, fit_encoder
from ipar.training._fit_iga import IGAFit, fit_flow
from ipar.training._fit_ipalite import IPALiteFit, MinisetPlan, fit_networks
from ipar.training._fit_overview import OverviewTraining, fit_overview, fit_sketch
from ipar.training._flow import FlowLosses, FlowWeights, corrupt, couple, flow_losses
from ipar.training._flow_loop import FlowTrainer, FlowTraining, validate_flow
from ipar.training._gene_weights import gene_weights
from ipar.training._localise import FoldScore, Localisability, score_fold
from ipar.training._loop import IPALiteTrainer, IPALiteTraining
from ipar.training._losses import LossWeights, gate_loss, layout_losses
from ipar.training._measures import attention_recall, recall_chance
from ipar.training._minisets import Miniset, MinisetBatch, collate, make_miniset, sample_minisets
from ipar.training._optimise import (
    Optimisation,
    OptimisedLayout,
    gate_targets,
    optimise_layout,
    optimise_sets,
    true_targets,
)
from ipar.training._pose_sets import PoseBatch, PoseSet, collate_poses, sample_pose_sets
from ipar.training._validate import sweep_beta, validate

__all__ = [
    "EmbeddingFit",
    "EncoderRecipe",
    "EncoderTraining",
    "FlowLosses",
    "FlowTrainer",
    "FlowTraining",
    "FlowWeights",
    "FoldScore",
    "IGAFit",
    "IPALiteFit",
    "IPALiteTrainer",
    "IPALiteTraining",
    "Localisability",
    "LossWeights",
    "Miniset",
    "MinisetBatch",
    "MinisetPlan",
    "Optimisation",
    "OptimisedLayout",
    "OverviewTraining",
    "PoseBatch",
    "PoseSet",
    "ProbeSet",
    "Slide",
    "Trained",
    "attention_recall",
    "collate",
    "collate_poses",
    "component_axes",
    "corrupt",
    "couple",
    "decompose_gap",
    "diagnose",
    "fit_embedding",
    "fit_encoder",
    "fit_flow",
    "fit_networks",
    "fit_overview",
    "fit_sketch",
    "flow_losses",
    "gate_loss",
    "gene_weights",
    "gate_targets",
    "global_loss",
    "layout_losses",
    "local_loss",
    "make_miniset",
    "optimise_layout",
    "optimise_sets",
    "probe_set",
    "recall_chance",
    "sample_minisets",
    "sample_pose_sets",
    "score_fold",
    "shuffle_controls",
    "sweep_beta",
    "train_encoder",
    "true_targets",
    "validate",
    "validate_flow",
]
