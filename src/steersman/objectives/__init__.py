"""Energies over parameters, one file each: what training descends. Each states its formula and normalisation."""

from steersman.core import ObjectiveConfig
from steersman.objectives.combine import Sum, combine
from steersman.objectives.inverse_dynamics import InverseDynamics
from steersman.objectives.motion import Motion
from steersman.objectives.prediction import Prediction, measured_share, step_errors
from steersman.objectives.sigreg import SIGReg
from steersman.objectives.temporal import TemporalSimilarity
from steersman.objectives.vicreg import VICReg

__all__ = [
    "InverseDynamics",
    "Motion",
    "ObjectiveConfig",
    "Prediction",
    "SIGReg",
    "Sum",
    "TemporalSimilarity",
    "VICReg",
    "combine",
    "measured_share",
    "step_errors",
]
