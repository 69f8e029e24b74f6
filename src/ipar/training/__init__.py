"""Slides, recipes, fits of every stage, and the localisability check; nothing here knows AnnData."""

from ipar._run import Run
from ipar.training.axes import component_axes, gene_weights
from ipar.training.diagnostics import ProbeSet, diagnose, probe_set
from ipar.training.embedding import EmbeddingFit, fit_embedding
from ipar.training.encoder import EncoderRecipe, fit_encoder
from ipar.training.encoder_training import EncoderTraining, global_loss, local_loss, train_encoder
from ipar.training.epochs import Trained
from ipar.training.experiments import decompose_gap, shuffle_controls
from ipar.training.finish import FinishRecipe
from ipar.training.fit import Embedded, ModelFit, fit_iga, fit_ipalite
from ipar.training.flow import FlowRecipe, fit_flow
from ipar.training.flow_losses import FlowLosses, FlowWeights, corrupt, couple, flow_losses
from ipar.training.flow_training import FlowTrainer, FlowTraining, validate_flow
from ipar.training.folds import Folds
from ipar.training.held_out import StageFit
from ipar.training.localise import FoldScore, Localisability, score_fold
from ipar.training.losses import LossWeights, gate_loss, layout_losses
from ipar.training.measures import attention_recall, recall_chance
from ipar.training.minisets import Miniset, MinisetBatch, collate, make_miniset, sample_minisets
from ipar.training.network import MinisetPlan, NetworkRecipe, fit_network
from ipar.training.network_training import IPALiteTrainer, IPALiteTraining
from ipar.training.optimise import (
    Optimisation,
    OptimisedLayout,
    gate_targets,
    optimise_layout,
    optimise_sets,
    true_targets,
)
from ipar.training.pose_sets import PoseBatch, PoseSet, collate_poses, sample_pose_sets
from ipar.training.recipe import Recipe
from ipar.training.set_encoder import SetEncoderTraining, fit_set_encoder
from ipar.training.slides import Slide, SlideSet
from ipar.training.uncertainty import UncertaintyRecipe
from ipar.training.validation import sweep_beta, validate

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
