"""The goal of a problem as a place in a graph of ways: a goal on some columns is every state that matches.

Shapes: B problems, P entries of a place.
"""

from __future__ import annotations

import torch

from steersman.actor.graph.aim import aim_of
from steersman.core import ColumnGoal, Problem, Readout
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.targets import Target


def target_of(problem: Problem, graph: WayGraph, readout: Readout | None, planner: str) -> Target:
    """The goal of every problem as a place.

    Raises:
        PlanningError: a goal that is code or an observation, or columns that no read-out knows.
    """
    aim, goal = aim_of(problem, readout, planner), problem.task.goal
    p = graph.places.shape[1]
    if isinstance(goal, ColumnGoal):
        assert aim.scale is not None
        place, named = aim.target.new_zeros(len(problem), p), torch.zeros(p, dtype=torch.bool)
        index = list(aim.index)
        place[:, index] = aim.target * aim.scale / graph.unit[index]
        named[index] = True
        return Target(place, named)
    return Target(read_places(aim.target[:, None], readout, graph.unit, problem.belief.context)[:, 0],
                  torch.ones(p, dtype=torch.bool))
