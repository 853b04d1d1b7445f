"""The actor: Mode-2 planners, one file each, what they share, and a Mode-1 policy distilled from their plans.

How to choose: iCEM for smooth continuous control, CEM for discrete actions or as the reference, search in imagination
where distance to the goal misleads (walls, detours), breadth-first where states can be counted (grids, boards), the
gradient planners where actions are many and the model is smooth, the augmented Lagrangian where plans rest on
guardrails, Newton where they do and unknowns are few (about a hundred); beam search, dynamic programming and tree
search for choices, the latter two also where steps are left to chance; A* for far goals through remembered states.
Seeded shows any sampling planner what a policy would do, Deliberate asks one only as far as a
decision is worth it. Greedy is the floor to measure them against.
docs/planners.md has the measured table.
"""

from steersman.actor.deliberation.deliberate import Deliberate
from steersman.actor.deliberation.gate import Gate
from steersman.actor.descent.augmented_lagrangian import AugmentedLagrangian
from steersman.actor.descent.gradient import Gradient
from steersman.actor.descent.newton import Newton
from steersman.actor.gaze import Gaze
from steersman.actor.graph.astar import AStar
from steersman.actor.graph.breadth import BreadthFirst
from steersman.actor.graph.search import Search
from steersman.actor.ground.bounds import Bounds, fallback_action
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.rounds import (
    Proposal,
    Searched,
    Spending,
    decide,
    examine,
    plan_in_rounds,
    search_in_rounds,
)
from steersman.actor.ground.verdict import Verdict, score, verdict, weighted_terms
from steersman.actor.hierarchy import Reach, why_not
from steersman.actor.policy.manoeuvres import Brake, Constant
from steersman.actor.policy.policy import DistilledPolicy, Reactive
from steersman.actor.policy.seeded import Seeded
from steersman.actor.safety.backup import Backup
from steersman.actor.safety.barrier import Barrier
from steersman.actor.sampling.cem import CEM
from steersman.actor.sampling.greedy import Greedy
from steersman.actor.sampling.icem import ICEM
from steersman.actor.sampling.mppi import MPPI
from steersman.actor.sampling.predictive_sampling import PredictiveSampling
from steersman.actor.tree.beam import Beam
from steersman.actor.tree.dynamic_programming import DynamicProgramming
from steersman.actor.tree.mcts import MCTS

__all__ = [
    "CEM",
    "ICEM",
    "MCTS",
    "MPPI",
    "AStar",
    "AugmentedLagrangian",
    "Backup",
    "Barrier",
    "Beam",
    "Bounds",
    "Brake",
    "BreadthFirst",
    "Constant",
    "Deliberate",
    "DistilledPolicy",
    "DynamicProgramming",
    "Gate",
    "Gaze",
    "Gradient",
    "Greedy",
    "Newton",
    "PredictiveSampling",
    "Proposal",
    "Reach",
    "Reactive",
    "Search",
    "Searched",
    "Seeded",
    "Spending",
    "Verdict",
    "decide",
    "examine",
    "fallback_action",
    "feasibility_first",
    "plan_in_rounds",
    "score",
    "search_in_rounds",
    "verdict",
    "weighted_terms",
    "why_not",
]
