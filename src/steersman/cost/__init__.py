"""Energies over actions, and limits that are never traded against them."""

from steersman.cost.action import EffortCost, SmoothnessCost
from steersman.cost.adaptive import AdaptiveMargins
from steersman.cost.agreement import Agreement
from steersman.cost.apart import Apart
from steersman.cost.bad_states import BadStates
from steersman.cost.between import Between
from steersman.cost.box import Box
from steersman.cost.clear import Clear
from steersman.cost.conformal import conformal_quantile, grouped_quantile, labels_needed
from steersman.cost.critic import CriticFit, IntrinsicCritic, require_intrinsic
from steersman.cost.demonstrations import Recovered, recover_weights, term_energies
from steersman.cost.disagreement import DisagreementCost
from steersman.cost.excess import ExcessCost
from steersman.cost.goal import GoalCost
from steersman.cost.goals import column_names, resolve
from steersman.cost.half_space import HalfSpace
from steersman.cost.learned import LearnedCost
from steersman.cost.logged import Logged
from steersman.cost.margins import Margins, StepMargin, calibrate_margins
from steersman.cost.on_columns import OnColumns
from steersman.cost.reachable import ReachableCost
from steersman.cost.region import Region
from steersman.cost.sealed import Sealed
from steersman.cost.steps_to_go import StepsToGo
from steersman.cost.td_value import TDValue
from steersman.cost.temporal_distance import TemporalDistance

__all__ = [
    "AdaptiveMargins",
    "Agreement",
    "Apart",
    "BadStates",
    "Between",
    "Box",
    "Clear",
    "CriticFit",
    "DisagreementCost",
    "EffortCost",
    "ExcessCost",
    "GoalCost",
    "HalfSpace",
    "IntrinsicCritic",
    "LearnedCost",
    "Logged",
    "Margins",
    "OnColumns",
    "ReachableCost",
    "Recovered",
    "Region",
    "Sealed",
    "SmoothnessCost",
    "StepMargin",
    "StepsToGo",
    "TDValue",
    "TemporalDistance",
    "calibrate_margins",
    "column_names",
    "conformal_quantile",
    "grouped_quantile",
    "labels_needed",
    "recover_weights",
    "require_intrinsic",
    "resolve",
    "term_energies",
]
