"""Exact answers that planners are held against: Riccati, all sequences of choices, value iteration, shortest ways.

Knows planners by their interface only. Shapes: B starts, H horizon, S states of a table, C choices.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.graph.shortest import shortest_ways
from steersman.core import ActionSpec, Belief, CallableGoal, Planner, PlanningError, Problem, Task
from steersman.core.checks.drift import draw_case
from steersman.world_model import LinearModel, TabularModel
from steersman.worlds import TabularCost, TabularMDP
from steersman.worlds.lqr import LQR, LQRCost

HORIZON, STARTS = 10, 16
CHOICES, LEFT = 5, 4
TABLES, STATES = 4, 6
GRAPHS, NODES, EDGES = 1000, 20, 4


@dataclass(frozen=True)
class Gap:
    """J / J* - 1 of the worst and of the median start."""

    worst: float
    median: float

    @classmethod
    def of(cls, energy: Tensor, best: Tensor) -> Gap:
        gaps = energy.double() / best.double() - 1
        return cls(float(gaps.max()), float(gaps.median()))


@dataclass(frozen=True)
class Price:
    """Predictor calls and CPU milliseconds of one decision."""

    calls: int
    milliseconds: float


def riccati(planner: Planner, seed: int) -> tuple[Gap | None, Price | None]:
    """Whole plans of HORIZON steps in a double integrator from random starts, bounds of ±10 that no optimum meets.

    (None, None): it does not plan for such actions; (None, price): it decides step by step.
    """
    world = LQR.double_integrator(dt=0.2)
    start = torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(seed))
    problem = Problem(
        LinearModel(world.transition, world.control), Belief(start), (LQRCost(world),),
        Task(_any_goal(), {"lqr": 1.0}, horizon=HORIZON),
        world.signature.action, torch.arange(STARTS) + seed, torch.zeros(STARTS, dtype=torch.int64),
    )
    try:
        plan = planner.plan(problem)
    except PlanningError:
        return None, None
    price = _price(planner, problem, int(plan.calls.max()))
    if plan.actions.shape[1] < HORIZON:
        return None, price
    return Gap.of(world.energy(start, plan.actions), world.optimal_energy(start, HORIZON)), price


def _price(planner: Planner, problem: Problem, calls: int) -> Price:
    one = replace(problem, belief=problem.belief[:1], seeds=problem.seeds[:1], decision=problem.decision[:1])
    seconds = []
    for _ in range(3):
        began = time.process_time()
        planner.plan(one)
        seconds.append(time.process_time() - began)
    return Price(calls, 1000 * sorted(seconds)[1])


def choices(planner: Planner, seed: int) -> Gap | None:
    """LEFT decisions in turn, each for the steps that are left, against the best of all CHOICES^LEFT sequences."""
    case = replace(draw_case(ActionSpec("discrete", choices=CHOICES), STARTS, seed), horizon=LEFT)
    problem = case.problem()
    cost, total, warm = problem.costs[0], torch.zeros(STARTS), None
    every = torch.tensor(list(itertools.product(range(CHOICES), repeat=LEFT)))[None, :, :, None]
    every = every.expand(STARTS, -1, -1, -1)
    best = cost.energy(problem.model.imagine(problem.belief, every), every, problem.task).sum(2).amin(1)
    for left in range(LEFT, 0, -1):  # time is sequential
        problem = replace(case, horizon=left).problem()
        try:
            plan = planner.plan(replace(problem, warm=warm))
        except PlanningError:
            return None
        action, warm = plan.action[:, None, None], plan.warm
        imagined = problem.model.imagine(problem.belief, action)
        total = total + cost.energy(imagined, action, problem.task)[:, 0, 0]
        case = replace(case, start=imagined.states[:, 0, 1], decision=case.decision + 1)
    return Gap.of(total, best)


def tables(planner: Planner, seed: int, outcomes: int) -> Gap | None:
    """What following its choices costs from every state of random tables in which each choice has so many outcomes,
    LEFT steps, against value iteration. Evaluated from the end on, exactly, not by samples."""
    reached, best = [], []
    for number in range(TABLES):
        mdp = TabularMDP.random(STATES, 3, TABLES * seed + number, outcomes)
        following = torch.zeros(STATES, dtype=torch.float64)
        for left in range(1, LEFT + 1):
            try:
                choice = planner.plan(_tabular(mdp, left, seed)).action[:, 0]
            except PlanningError:
                return None
            worth = mdp.energies.double() + (mdp.transition.double() @ following).T
            following = worth[torch.arange(STATES), choice.long()]
        reached.append(following)
        best.append(mdp.solve(LEFT)[0][0])
    return Gap.of(torch.cat(reached), torch.cat(best))


def _tabular(mdp: TabularMDP, left: int, seed: int) -> Problem:
    starts = torch.arange(STATES)
    return Problem(
        TabularModel(mdp.transition), Belief(mdp.one_hot(starts)), (TabularCost(mdp),),
        Task(_any_goal(), {"tabular": 1.0}, horizon=left), mdp.signature.action, starts + seed,
        torch.full((STATES,), LEFT - left),
    )


def graphs(seed: int) -> int:
    """How many of GRAPHS random graphs have a shortest way that A* finds longer, or not, or where there is none."""
    import networkx

    g = torch.Generator().manual_seed(seed)
    place = torch.rand(GRAPHS, NODES, 2, generator=g)
    neighbour = torch.rand(GRAPHS, NODES, NODES, generator=g).argsort(-1)[..., :EDGES]
    missing = torch.rand(GRAPHS, NODES, EDGES, generator=g) < 0.3
    to = place[torch.arange(GRAPHS)[:, None, None], neighbour]
    cost = (to - place[:, :, None]).norm(dim=-1) * (1 + torch.rand(GRAPHS, NODES, EDGES, generator=g))
    neighbour, cost = torch.where(missing, -1, neighbour), cost.masked_fill(missing, torch.inf)
    entry, leave = torch.full((2, GRAPHS, NODES), torch.inf)
    entry[:, 0], leave[:, 1] = 0, 0
    ways = shortest_ways(neighbour, cost, entry, leave, (place - place[:, 1:2]).norm(dim=-1) * (1 - 1e-5))
    unequal = 0
    for number in range(GRAPHS):
        graph = networkx.DiGraph()
        graph.add_nodes_from(range(NODES))
        edges = enumerate(zip(neighbour[number].tolist(), cost[number].tolist(), strict=True))
        graph.add_weighted_edges_from((n, to, c) for n, row in edges for to, c in zip(*row, strict=True) if to >= 0)
        least = torch.inf
        if networkx.has_path(graph, 0, 1):
            least = networkx.dijkstra_path_length(graph, 0, 1)
        found = float(ways.cost[number])
        unequal += found != least and abs(found - least) > 1e-5 * least
    return unequal


def _any_goal() -> CallableGoal:
    def energy(columns: Any, imagined: Any) -> Tensor:
        states: Tensor = imagined.states
        return states

    return CallableGoal(energy)
