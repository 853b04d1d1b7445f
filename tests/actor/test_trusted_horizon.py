"""Whatever a planner and a task would like, nothing is imagined beyond the horizon that is trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import LinearWorld, reach
from torch import Tensor

from steersman.actor import CEM, ICEM, Greedy, Search
from steersman.core import Belief, Imagined, PlanningError


class Watched(LinearWorld):
    """Remembers how far it was asked to look, and how far from the start it came."""

    def __init__(self) -> None:
        super().__init__(torch.eye(2), torch.eye(2))
        self.longest, self.farthest = 0, 0.0

    def imagine(self, belief: Belief, actions: Tensor, exogenous: object = None, u: object = None) -> Imagined:
        imagined = super().imagine(belief, actions)
        self.longest = max(self.longest, actions.shape[2])
        self.farthest = max(self.farthest, float(imagined.states.norm(dim=-1).max()))
        return imagined


PLANNERS = [
    CEM.Config(samples=8, iterations=2, elites=2, horizon=9).build(),
    ICEM.Config(samples=8, iterations=2, elites=2, horizon=9).build(),
    Greedy.Config(ahead=9).build(),
    Search.Config(nodes=96).build(),
]


@pytest.mark.parametrize("trusted", [1, 2, 4])
@pytest.mark.parametrize("planner", PLANNERS, ids=lambda p: type(p).__name__)
def test_no_planner_looks_beyond_what_is_trusted(planner: object, trusted: int) -> None:
    model = Watched()
    problem = reach([[0.0, 0.0]], [[40.0, 0.0]], model=model)
    problem = replace(problem, task=replace(problem.task, horizon=7, trusted=trusted))
    plan = planner.plan(problem)
    assert model.longest <= trusted
    assert plan.actions.shape[1] <= trusted
    assert bool(plan.feasible.all())
    again = planner.plan(replace(problem, warm=plan.warm, decision=problem.decision + 1))
    assert again.actions.shape[1] <= trusted


def test_search_keeps_no_node_that_lies_farther_from_the_start_than_is_trusted() -> None:
    reached = []
    for trusted in (None, 6):
        model = Watched()
        problem = reach([[0.0, 0.0]], [[3.0, 0.0]], model=model)
        problem = replace(problem, task=replace(problem.task, trusted=trusted))
        graph = Search.Config(nodes=96).build().plan(problem).warm
        reached.append(float(graph.nodes[0, : int(graph.count[0])].norm(dim=-1).max()))
    assert reached[1] <= 6 + 1e-4 < reached[0]  # a step moves the point by 1


def test_no_trusted_step_at_all_is_refused() -> None:
    problem = reach([[0.0, 0.0]], [[1.0, 0.0]])
    with pytest.raises(PlanningError, match="trusted horizon of at least 1"):
        PLANNERS[0].plan(replace(problem, task=replace(problem.task, trusted=0)))
