"""The actor: Mode-2 planners, one file each, what they share, and a Mode-1 policy distilled from their plans.

How to choose: iCEM for smooth continuous control, CEM for discrete actions or as the reference, search in imagination
where distance to the goal misleads (walls, detours), the gradient planners where actions are many and the model is
smooth, the augmented Lagrangian where plans rest on guardrails, Newton where they do and
unknowns are few (about a hundred); beam search, dynamic programming and tree search for
choices, the latter two also where steps are left to chance; A* for far goals through remembered states. Greedy is the
floor to measure them against.
docs/planners.md has the measured table.
"""

from steersman.actor.astar import AStar
from steersman.actor.augmented_lagrangian import AugmentedLagrangian
from steersman.actor.backup import Backup
from steersman.actor.barrier import Barrier
from steersman.actor.beam import Beam
from steersman.actor.bounds import Bounds, fallback_action
from steersman.actor.cem import CEM
from steersman.actor.dynamic_programming import DynamicProgramming
from steersman.actor.gradient import Gradient
from steersman.actor.greedy import Greedy
from steersman.actor.icem import ICEM
from steersman.actor.manoeuvres import AnyManoeuvre, Brake, Constant
from steersman.actor.mcts import MCTS
from steersman.actor.mppi import MPPI
from steersman.actor.newton import Newton
from steersman.actor.policy import DistilledPolicy, Reactive
from steersman.actor.predictive_sampling import PredictiveSampling
from steersman.actor.ranking import feasibility_first
from steersman.actor.rounds import Proposal, Searched, Spending, decide, examine, plan_in_rounds, search_in_rounds
from steersman.actor.scoring import Scores, score, total_energy
from steersman.actor.search import Search
from steersman.core import Planner, Policy, register_all

AnyPlanner = (
    CEM.Config | ICEM.Config | MPPI.Config | PredictiveSampling.Config | Gradient.Config | AugmentedLagrangian.Config
    | Newton.Config | Search.Config | Greedy.Config | Barrier.Config | Beam.Config | DynamicProgramming.Config
    | MCTS.Config | AStar.Config | Backup.Named
)
register_all(Planner, AnyPlanner)
register_all(Policy, AnyManoeuvre)

__all__ = [
    "CEM",
    "ICEM",
    "MCTS",
    "MPPI",
    "AStar",
    "AnyManoeuvre",
    "AnyPlanner",
    "AugmentedLagrangian",
    "Backup",
    "Barrier",
    "Beam",
    "Bounds",
    "Brake",
    "Constant",
    "DistilledPolicy",
    "DynamicProgramming",
    "Gradient",
    "Greedy",
    "Newton",
    "PredictiveSampling",
    "Proposal",
    "Reactive",
    "Scores",
    "Search",
    "Searched",
    "Spending",
    "decide",
    "examine",
    "fallback_action",
    "feasibility_first",
    "plan_in_rounds",
    "score",
    "search_in_rounds",
    "total_energy",
]
