"""Slides, recipes, fits of every stage, and the localisability check; nothing here knows AnnData."""

from ipar.training._axes import component_axes
from ipar.training._diagnostics import ProbeSet, diagnose, probe_set
from ipar.training._encoder import EncoderTraining, global_loss, local_loss, train_encoder
from ipar.training._epochs import Trained
from ipar.training._experiments import decompose_gap, shuffle_controls
from ipar.training._fit import Embedded, ModelFit, fit_iga, fit_ipalite
from ipar.training._fit_embedding import EmbeddingFit, fit_embedding
from ipar.training._fit_encoder import EncoderRecipe, fit_encoder
from ipar.training._fit_finish import FinishRecipe
from ipar.training._fit_flow import FlowRecipe, fit_flow
from ipar.training._fit_network import MinisetPlan, NetworkRecipe, fit_network
from ipar.training._fit_set_encoder import SetEncoderTraining, fit_set_encoder
from ipar.training._fit_uncertainty import UncertaintyRecipe
from ipar.training._flow import FlowLosses, FlowWeights, corrupt, couple, flow_losses
from ipar.training._flow_loop import FlowTrainer, FlowTraining, validate_flow
from ipar.training._folds import Folds
from ipar.training._gene_weights import gene_weights
from ipar.training._held_out import StageFit
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
from ipar.training._recipe import Recipe
from ipar.training._slides import Slide, SlideSet
from ipar.training._validate import sweep_beta, validate

__all__ = [
    "EncoderRecipe",
    "EncoderTraining",
    "FinishRecipe",
    "FlowRecipe",
    "FlowTraining",
    "FlowWeights",
    "Folds",
    "IPALiteTraining",
    "Localisability",
    "LossWeights",
    "MinisetPlan",
    "NetworkRecipe",
    "Optimisation",
    "Recipe",
    "SetEncoderTraining",
    "Slide",
    "SlideSet",
    "UncertaintyRecipe",
    "component_axes",
    "fit_embedding",
    "fit_iga",
    "fit_ipalite",
    "gene_weights",
]
