"""Plans that come no nearer to the goal say so: not at the goal, not on a detour, not for one plan alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from steersman.agent.nearing import SAID, Near, looked, notice, same_goal
from steersman.core import (
    ActionSpec,
    Belief,
    CallableGoal,
    ColumnGoal,
    Imagined,
    Latent,
    LatentGoal,
    Plan,
    Planner,
    Problem,
    Readout,
    Task,
)
from steersman.cost import GoalCost, TemporalDistance

H = 5


class Place(Readout):
    """The state is the place."""

    @property
    def columns(self) -> tuple[str, ...]:
        return ("x",)

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states[..., :1]


class Follows(Planner):
    """Plans the course (B,) that `where` gives each moment, H steps of it."""

    horizon: int | None = H

    def __init__(self, *where: Callable[[int], Any], feasible: bool = True) -> None:
        self.where, self.feasible, self.asked = where, feasible, 0

    def plan(self, problem: Problem) -> Plan:
        b, t = len(self.where), int(problem.decision[0])
        self.asked += 1
        states = torch.tensor([[w(t + i) for i in range(H + 1)] for w in self.where])[:, None]
        states = states if states.dim() == 4 else states[..., None]
        return Plan(torch.zeros(b, H, 1), Imagined(states), {}, torch.full((b,), self.feasible), torch.ones(b), {},
                    ("because",) * b, torch.ones(b), 0.0)


class Watched:
    """What an agent holds of it between decisions."""

    def __init__(self) -> None:
        self.near: Near | None = None
        self.goal: Any = None

    def plan(self, planner: Planner, problem: Problem) -> Plan:
        if self.near is not None and (len(self.near.stuck) != len(problem) or not same_goal(
                self.goal, problem.task.goal)):
            self.near = None
        self.goal = problem.task.goal
        plan, self.near = looked(self.near, planner.plan(problem), problem, planner)
        return plan


def reasons(
    planner: Follows, task: Task, decisions: int, costs: tuple = (), watched: Watched | None = None, first: int = 0
) -> list[tuple[str, ...]]:
    watched, b = watched or Watched(), len(planner.where)
    costs = costs or (GoalCost(Place()),)
    spec, start = ActionSpec("continuous", (-1.0,), (1.0,)), Belief(torch.zeros(b, 1))
    return [watched.plan(planner, Problem(
        None, start, costs, task, spec, torch.arange(b), torch.full((b,), t))).reason  # type: ignore[arg-type]
        for t in range(first, first + decisions)]


def said_at(found: list[tuple[str, ...]], row: int = 0) -> list[int]:
    return [t for t, reason in enumerate(found) if SAID in reason[row]]


def swing(growth: float, period: float = 20.0) -> Callable[[int], float]:
    return lambda t: growth**t * math.sin(2 * math.pi * t / period)


FAR = ColumnGoal({"x": 30.0})


def test_swinging_to_and_fro_far_from_the_goal_is_said_with_what_to_try() -> None:
    at = said_at(found := reasons(Follows(swing(1.0)), Task(FAR), 100))
    assert 30 <= at[0] <= 40, "a plan or two that come no nearer say nothing"
    assert at == list(range(at[0], 100))
    assert found[-1][0] == (
        f"because; for 30 steps or more {SAID}: it may lie beyond 5 steps; try a horizon several times as long, or "
        "weigh a temporal distance that was fitted to the log (steersman fit RUN --distance)")
    assert notice(found[-1][0]) == found[-1][0].removeprefix("because; ")
    assert notice("because") == ""


def test_each_swing_nearer_than_the_last_is_a_swing_up() -> None:
    assert said_at(reasons(Follows(swing(1.02)), Task(FAR), 150)) == []


def test_at_the_goal_nothing_is_said() -> None:
    near = Follows(lambda t: 30.0 + 0.09 * (-1) ** t)
    assert said_at(reasons(near, Task(FAR), 100)) == []
    near = Follows(lambda t: 30.0 + 0.9 * (-1) ** t)
    assert said_at(reasons(near, Task(FAR), 100))
    assert said_at(reasons(near, Task(ColumnGoal({"x": 30.0}, {"x": 10.0})), 100)) == [], "in units of its scale"


def test_a_latent_goal_is_reached_within_two_steps_length() -> None:
    goal = LatentGoal(Latent(torch.tensor([[30.0]])))
    assert said_at(reasons(Follows(lambda t: 29.0 + 0.5 * (t % 2)), Task(goal), 100)) == []
    assert said_at(reasons(Follows(lambda t: 27.0 + 0.5 * (t % 2)), Task(goal), 100))
    last = (GoalCost(over="last"),)
    assert said_at(reasons(Follows(lambda t: 27.0 + 0.5 * (t % 2)), Task(goal), 100, last))


def test_an_episode_beside_one_that_is_stuck_is_not_alarmed() -> None:
    found = reasons(Follows(swing(1.0), lambda t: 0.3 * t), Task(FAR), 90)
    assert said_at(found, 0)
    assert said_at(found, 1) == []


@pytest.mark.parametrize("goal", [lambda x: ColumnGoal({"x": x}), lambda x: LatentGoal(Latent(torch.tensor([[x]])))])
def test_a_goal_that_is_said_again_with_every_request_is_the_same_goal(goal: Callable[[float], Any]) -> None:
    watched, planner = Watched(), Follows(swing(1.0))
    again = [reasons(planner, Task(goal(30.0)), 1, watched=watched, first=t)[0] for t in range(60)]
    assert said_at(again)
    other = [reasons(planner, Task(goal(31.0 + t % 2)), 1, watched=watched, first=t)[0] for t in range(60, 120)]
    assert said_at(other) == []


@pytest.mark.parametrize("change", ["goal", "episode", "problems"])
def test_what_begins_anew_is_given_time_anew(change: str) -> None:
    watched, planner, task = Watched(), Follows(swing(1.0)), Task(FAR)
    assert said_at(reasons(planner, task, 60, watched=watched))
    first = 60
    if change == "goal":
        task = Task(ColumnGoal({"x": 40.0}))
    elif change == "episode":
        first = 0
    else:
        planner.where = (swing(1.0), swing(1.0))
    at = said_at(reasons(planner, task, 60, watched=watched, first=first))
    assert at
    assert at[0] >= 28


def test_graph_searches_are_given_longer() -> None:
    planner = Follows(swing(1.0))
    planner.horizon = None
    assert said_at(reasons(planner, Task(FAR), 160))[0] >= 120


def test_no_plan_within_the_limits_or_a_goal_of_code_says_nothing_of_it() -> None:
    assert said_at(reasons(Follows(swing(1.0), feasible=False), Task(FAR), 60)) == []
    code = CallableGoal(lambda columns, imagined: torch.ones(imagined.states.shape[:2]))
    assert said_at(reasons(Follows(swing(1.0)), Task(code), 60)) == []
    assert said_at(reasons(Follows(swing(1.0)), Task(FAR, weights={"goal": 0.0}), 60)) == []


def test_what_is_trusted_bounds_the_advice() -> None:
    told = lambda trusted: reasons(Follows(swing(1.0)), Task(FAR, trusted=trusted), 60)[-1][0]  # noqa: E731
    assert "as long, up to the 12 that are trusted, or weigh" in told(12)
    assert "beyond the 5 steps that are trusted; weigh" in told(5)


def test_a_detour_that_the_temporal_distance_knows_is_no_standstill() -> None:
    """Left, up, and back to above where it began: plain distance first grows, steps to go never do."""
    corners = [(0.0, 0.0), (-2.0, 0.0), (-2.0, 1.0), (1.0, 1.0)]
    way = torch.cat([torch.stack([torch.linspace(p, q, 25)[:24] for p, q in zip(a, b, strict=True)], 1)
                     for a, b in pairwise(corners)] + [torch.ones(12, 2)])
    distance = TemporalDistance((2,), TemporalDistance.Config(steps=200, hidden=(64,)))
    distance.fit(way.repeat(6, 1), torch.arange(6).repeat_interleave(len(way)))
    goal, costs = LatentGoal(Latent(torch.ones(1, 2))), (GoalCost(Place()), distance)
    along = Follows(lambda t: tuple(way[t].tolist()))
    assert said_at(reasons(along, Task(goal), 70, costs)), "plain distance alone takes the detour for a standstill"
    assert said_at(reasons(along, Task(goal, weights={"temporal-distance": 1.0}), 72, costs)) == []
    asked: list[int] = []
    costs[1].energy = lambda *words: asked.append(1)  # type: ignore[method-assign,assignment]  # as a recorder watches
    reasons(along, Task(goal, weights={"temporal-distance": 1.0}), 10, costs)
    assert asked == []


def test_what_is_said_of_a_row_does_not_depend_on_when_the_others_began():
    stays = Follows(lambda t: 3.0, lambda t: 3.0)
    spec, task = ActionSpec("continuous", (-1.0,), (1.0,)), Task(ColumnGoal({"x": 0.0}))

    def seen(ages: list[int]) -> Near:
        near, planner = None, Follows(*stays.where[: len(ages)])
        for t in range(38):
            problem = Problem(  # type: ignore[arg-type]
                None, Belief(torch.zeros(len(ages), 1)), (GoalCost(Place()),), task, spec,
                torch.arange(len(ages)), torch.tensor(ages) + t)
            _, near = looked(near, planner.plan(problem), problem, planner)
        assert near is not None
        return near

    together, alone = seen([0, 1]), [seen([0]), seen([1])]
    for row, one in enumerate(alone):
        for name in ("least", "stale", "elapsed", "stuck"):
            assert torch.equal(getattr(together, name)[row : row + 1], getattr(one, name)), name
