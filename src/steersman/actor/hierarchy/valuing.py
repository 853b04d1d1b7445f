"""Steps to go in a graph of ways, for the goals of a problem: a goal on some columns is every state that matches.

Shapes: B problems, N nodes, K candidates, P entries of a place, C columns that the goal names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.graph.aim import aim_of
from steersman.core import ColumnGoal, Problem, Readout, TensorRecord
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.steps_to_go import steps_to_go


@dataclass(frozen=True)
class Target(TensorRecord):
    """Where B problems are to come: place (B, P), and which of its entries the goal names, named (P,) bool."""

    place: Tensor
    named: Tensor

    def rest(self, places: Tensor, unit: Tensor) -> Tensor:
        """Places (B, …, P) -> (B, …): how far they lie from matching, in steps. What the goal does not name is as it
        may be, and so is what never changes."""
        goal = self.place.view(len(self.place), *[1] * (places.dim() - 2), -1)
        return ((places - goal) * (self.named & unit.isfinite())).norm(dim=-1)


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


def arrived_at(graph: WayGraph, target: Target) -> Tensor:
    """(B, N): the rest of the way from nodes that touch the goal, in steps; infinite for others."""
    rest = target.rest(graph.places.expand(len(target.place), -1, -1), graph.unit)
    return rest.masked_fill(rest > graph.touch, torch.inf)


def value_of(graph: WayGraph, target: Target, cut: Tensor | None = None) -> Tensor:
    """Steps to go from every node, (B, N), infinite where no way is known. cut (B, N) bool: nodes that no way may
    touch."""
    arrived, cost = arrived_at(graph, target), graph.cost
    if cut is not None:
        arrived = arrived.masked_fill(cut, torch.inf)
        cost = cost.masked_fill(cut[:, graph.neighbour.clamp(min=0)], torch.inf)
    return steps_to_go(graph.neighbour, cost, arrived)
