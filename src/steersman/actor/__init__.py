"""The actor: Mode-2 planners, one file each, what they share, and a Mode-1 policy distilled from their plans.

How to choose: iCEM for smooth continuous control, CEM for discrete actions or as the reference, search in imagination
where distance to the goal misleads (walls, detours). Greedy is the floor to measure them against.
"""

from steersman.actor.barrier import Barrier
from steersman.actor.bounds import Bounds, fallback_action
from steersman.actor.cem import CEM
from steersman.actor.greedy import Greedy
from steersman.actor.icem import ICEM
from steersman.actor.policy import DistilledPolicy
from steersman.actor.ranking import feasibility_first
from steersman.actor.rounds import Proposal, plan_in_rounds
from steersman.actor.scoring import Scores, score, total_energy
from steersman.actor.search import Search
from steersman.core import Planner, register_all

AnyPlanner = Barrier.Config | CEM.Config | ICEM.Config | Search.Config | Greedy.Config
register_all(Planner, AnyPlanner)

__all__ = [
    "CEM",
    "ICEM",
    "AnyPlanner",
    "Barrier",
    "Bounds",
    "DistilledPolicy",
    "Greedy",
    "Proposal",
    "Scores",
    "Search",
    "fallback_action",
    "feasibility_first",
    "plan_in_rounds",
    "score",
    "total_energy",
]
