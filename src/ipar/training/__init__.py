"""Slides, recipes, fits of every stage, and the localisability check; nothing here knows AnnData."""

from ipar._run import Run
from ipar.training.embedding import fit_embedding
from ipar.training.encoder import EncoderRecipe
from ipar.training.encoder_training import EncoderTraining
from ipar.training.finish import FinishRecipe
from ipar.training.fit import fit_iga, fit_ipalite
from ipar.training.flow import FlowRecipe
from ipar.training.flow_training import FlowTraining
from ipar.training.folds import Folds
from ipar.training.health import HealthChecks
from ipar.training.held_out import MinisetPlan
from ipar.training.network import IPALiteTraining, NetworkRecipe
from ipar.training.optimise import Optimisation
from ipar.training.recipe import Recipe
from ipar.training.regions import RegionRecipe
from ipar.training.resemblance import ResemblanceRecipe
from ipar.training.set_encoder import SetEncoderTraining
from ipar.training.slides import SlideSet
from ipar.training.uncertainty import UncertaintyRecipe

__all__ = [
    "SetEncoderTraining",
    "IPALiteTraining",
    "MinisetPlan",
    "FlowTraining",
    "EncoderTraining",
    "EncoderRecipe",
    "FinishRecipe",
    "FlowRecipe",
    "Folds",
    "HealthChecks",
    "NetworkRecipe",
    "Optimisation",
    "Recipe",
    "ResemblanceRecipe",
    "RegionRecipe",
    "Run",
    "SlideSet",
    "UncertaintyRecipe",
    "fit_embedding",
    "fit_iga",
    "fit_ipalite",
]
