"""Energies over parameters, one file each: what training descends. Each states its formula and normalisation."""

from steersman.core import ObjectiveConfig
from steersman.objectives.asked_columns import AskedColumns
from steersman.objectives.clip_variance import ClipVariance
from steersman.objectives.combine import Sum, combine
from steersman.objectives.energy_score import EnergyScore
from steersman.objectives.explained import ExplainedPrediction
from steersman.objectives.following import Following
from steersman.objectives.invariance import Invariance
from steersman.objectives.inverse_dynamics import InverseDynamics
from steersman.objectives.likeness import Likeness
from steersman.objectives.motion import Motion
from steersman.objectives.pixel_prediction import PixelPrediction
from steersman.objectives.place_variance import place_variance
from steersman.objectives.prediction import Prediction, measured_share, step_errors
from steersman.objectives.reachability import Reachability
from steersman.objectives.sigreg import SIGReg
from steersman.objectives.straightening import Straightening
from steersman.objectives.temporal import TemporalSimilarity
from steersman.objectives.vicreg import VICReg
from steersman.objectives.visreg import VISReg

__all__ = [
    "AskedColumns",
    "ClipVariance",
    "EnergyScore",
    "ExplainedPrediction",
    "Following",
    "Invariance",
    "InverseDynamics",
    "Likeness",
    "Motion",
    "ObjectiveConfig",
    "PixelPrediction",
    "Prediction",
    "Reachability",
    "SIGReg",
    "Straightening",
    "Sum",
    "TemporalSimilarity",
    "VICReg",
    "VISReg",
    "combine",
    "measured_share",
    "place_variance",
    "step_errors",
]
