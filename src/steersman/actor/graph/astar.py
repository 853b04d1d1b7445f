"""A* on a graph of remembered states, and a short-sighted planner that follows the way.

For goals farther than any horizon, in worlds that the log has covered. Shapes: B problems, N nodes, E edges, D, A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim, aim_of
from steersman.actor.graph.shortest import Ways, shortest_ways
from steersman.actor.ground.bounds import fallback_action
from steersman.actor.ground.verdict import verdict
from steersman.actor.sampling.cem import CEM
from steersman.actor.tree.stepping import choices
from steersman.core import (
    ConfigError,
    Imagined,
    Latent,
    LatentGoal,
    Plan,
    Planner,
    PlannerConfig,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Task,
    TensorRecord,
    register,
)
from steersman.core.latent_graph import GraphConfig, LatentGraph
from steersman.core.planner import GraphSource


@dataclass(frozen=True)
class Following(TensorRecord):
    """What the follower hands on, and the sub-goals (B, D) that it went for."""

    inner: Any
    towards: Tensor


class AStar(Planner):
    """Search the graph, go for a node a little way along, with any other planner.

        way = argmin entry + Σ cost + leave over the graph's ways (A*); the cost of an edge is the most that any member
        of the ensemble needs, edges above `limit` and edges that a guardrail refuses do not count
        estimate(n) = |n - goal| / v, v the fastest edge's length over its cost: never too much, so the way is shortest

    The present state enters at the nodes that imagining reaches from it, by `fan` constant actions of `ray` steps; the
    goal leaves from those of the `exits` nearest nodes that reach it; where there is none, from the nearest. (Near in
    latent space is not enough: a wall may lie between.) The follower plans towards the node `ahead` nodes along the
    way, or the goal itself once that is nearer; its guardrails, budget and fallback are the task's, and the action of
    the way's first edge is its proposal. Where no way is known it plans towards the goal, and the reason says so.

    The graph comes from `memory.build_graph`. A planner of a run's agent gets it from the run's log when it first
    plans (`remember`); without either there is nothing to search: PlanningError. Goals are states (give an observation)
    or columns that the agent's read-out knows; then the follower gets the state, of those that leaving the graph
    imagines, that comes nearest to them (`aim.Aim`). Beliefs are one state without a history. Random draws are the
    follower's; what is imagined to enter and leave the graph is taken off its budget.

    Ways are short in steps; the terms that a task weighs beside the goal are weighed by the follower.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="astar"):
        """limit: most steps of an edge; touch: step lengths within which a node is reached; ahead: nodes to look along
        the way; follow: the planner that carries it out; graph: how an agent makes the graph from its run's log."""

        limit: float = 8.0
        touch: float = 0.5
        fan: int = 16
        ray: int = 4
        exits: int = 8
        ahead: int = 3
        follow: PlannerConfig = msgspec.field(default_factory=lambda: CEM.Config(
            samples=64, iterations=4, elites=8, horizon=6))
        graph: GraphConfig = GraphConfig()

        def __post_init__(self) -> None:
            if min(self.ahead, self.fan, self.ray, self.exits) < 1 or not (self.limit > 0 and self.touch > 0):
                raise ConfigError("limit, touch, ahead, fan, ray and exits above 0", f"{self}",
                                  "correct the planner's configuration")

        def build(self) -> AStar:
            return AStar(self)

    def __init__(
        self, config: Config | None = None, graph: LatentGraph | None = None,
        source: Callable[[], LatentGraph] | None = None,
    ) -> None:
        """source: asked for the graph once, when it is needed."""
        self.config, self.graph, self.source = config or AStar.Config(), graph, source
        self.follower: Planner = self.config.follow.build()
        self.execute, self.horizon = self.follower.execute, self.follower.horizon
        self._readout: Readout | None = None

    def commits(self, task: Task) -> int:
        return self.follower.commits(task)

    def inside(self) -> tuple[Planner, ...]:
        return (self.follower,)

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        super().prepare(signature, readout, latent_shape)
        self._readout = readout

    def wants_latent_goal(self) -> bool:
        return True

    def remember(self, source: GraphSource) -> None:
        super().remember(source)
        if self.graph is None:
            self.source = lambda: source(self.config.graph, self.config.fan)

    def remembered(self) -> tuple[TensorRecord, ...]:
        return (self.memory(), *super().remembered())

    def plan(self, problem: Problem) -> Plan:
        graph, aim = self._graph(problem), aim_of(problem, self._readout, "astar")
        state = problem.belief.state
        ways, goal = self._ways(graph, problem, aim)
        towards, edge = self._towards(graph, ways, state, goal, fallback_action(problem))
        proposal = problem.proposal if problem.proposal is not None else edge
        used = len(choices(problem, self.config.fan)) * self.config.ray * (1 + min(self.config.exits, len(graph)))
        budget = problem.task.budget
        if budget.calls is not None:
            budget = replace(budget, calls=budget.calls - used)
        task = replace(problem.task, goal=LatentGoal(Latent(towards)), budget=budget)
        warm = problem.warm.inner if isinstance(problem.warm, Following) else None
        plan = self.follower.plan(replace(problem, task=task, proposal=proposal, warm=warm))
        reason = tuple(
            f"{self._said(float(cost), int((way >= 0).sum()), len(graph))}; {words}"
            for cost, way, words in zip(ways.cost, ways.nodes, plan.reason, strict=True)
        )
        return replace(plan, reason=reason, calls=plan.calls + used, warm=Following(plan.warm, towards))

    def memory(self) -> LatentGraph:
        """The graph; from its source, if it was not needed before.

        Raises:
            PlanningError: there is none.
        """
        if self.graph is None and self.source is not None:
            self.graph = self.source()
        if self.graph is None or not len(self.graph):
            raise PlanningError(
                "a graph of remembered states", "none", "load the agent from its run, whose log the graph is made "
                "from, or build one with memory.build_graph and give it: AStar(config, graph)")
        return self.graph

    def _graph(self, problem: Problem) -> LatentGraph:
        graph = self.memory()
        if problem.belief.state.shape[1:] != graph.nodes.shape[1:]:
            raise PlanningError(f"states {tuple(graph.nodes.shape[1:])} as in the graph",
                                f"{tuple(problem.belief.state.shape[1:])}", "build the graph with this perception")
        return graph.to(problem.belief.state.device)

    @torch.no_grad()
    def _ways(self, graph: LatentGraph, problem: Problem, aim: Aim) -> tuple[Ways, Tensor]:
        """The shortest ways, and the state (B, D) that they lead to in the end."""
        cost, every = graph.pessimistic(self.config.limit), problem.belief.context
        placed = aim.place(graph.nodes.expand(len(problem), -1, -1), every)
        to = graph.nodes[graph.neighbour.clamp(min=0)]
        there = placed[:, graph.neighbour.clamp(min=0)]  # (B, N, E, C)
        length = (there - placed[:, :, None]).norm(dim=-1)
        speed = torch.where(torch.isfinite(cost), length / cost.clamp_min(1e-9), 0).flatten(1).amax(1)
        unit = self._unit(graph, placed, aim)
        if problem.task.guardrails:
            cost = cost.masked_fill(self._refused(graph, problem, to), torch.inf)
        apart = (placed - aim.target[:, None]).norm(dim=-1)
        estimate = apart / speed.maximum(unit)[:, None] * (1 - 1e-5)  # rounding must not make it too much
        leave, goal = self._exits(graph, problem, aim, apart, unit)
        return shortest_ways(graph.neighbour, cost, self._entries(graph, problem), leave, estimate), goal

    @staticmethod
    def _unit(graph: LatentGraph, placed: Tensor, aim: Aim) -> Tensor:
        """(B,): what one step is worth where the goal is a point; of columns the median over edges."""
        if aim.readout is None:
            return graph.step.expand(len(placed))
        there = placed[:, graph.neighbour.clamp(min=0)]
        cost = graph.cost.amin(0)
        pace = (there - placed[:, :, None]).norm(dim=-1) / cost.clamp_min(1e-9)
        known = torch.isfinite(cost) & (graph.neighbour >= 0)
        return pace.masked_fill(~known, torch.nan).flatten(1).nanmedian(1).values.nan_to_num(nan=1.0).clamp_min(1e-9)

    def _entries(self, graph: LatentGraph, problem: Problem) -> Tensor:
        """(B, N): steps in which nodes are reached from here; infinite for others, the nearest apart."""
        state = problem.belief.state
        ways = self._rays(problem, state[:, None])  # (B, 1, R·(T+1), D), where they pass
        number = torch.arange(self.config.ray + 1, device=state.device).repeat(ways.shape[2] // (self.config.ray + 1))
        rest = torch.cdist(ways[:, 0], graph.nodes.expand(len(state), -1, -1), compute_mode=_EXACT) / graph.step
        needed = torch.where(rest <= self.config.touch, number[:, None] + rest, torch.inf).amin(1)
        return self._or_nearest(needed, _apart(state, graph.nodes) / graph.step)

    def _exits(
        self, graph: LatentGraph, problem: Problem, aim: Aim, apart: Tensor, unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, N): steps in which the goal is reached from nodes, infinite for others, the nearest apart; and the state
        (B, D) that is the goal: for columns, of all that was imagined the nearest to them."""
        near = apart.topk(min(self.config.exits, len(graph)), dim=1, largest=False).indices
        ways = self._rays(problem, graph.nodes[near])  # (B, K, R·(T+1), D)
        number = torch.arange(self.config.ray + 1, device=near.device).repeat(ways.shape[2] // (self.config.ray + 1))
        left = aim.apart(ways, problem.belief.context)
        rest = left / unit[:, None, None]
        needed = torch.where(rest <= self.config.touch, number + rest, torch.inf).amin(2)
        rows, best = torch.arange(len(near), device=near.device), left.flatten(1).argmin(1)
        goal = aim.target if aim.readout is None else ways.flatten(1, 2)[rows, best]
        leave = torch.full_like(apart, torch.inf).scatter(1, near, needed)
        return self._or_nearest(leave, apart / unit[:, None]), goal

    def _rays(self, problem: Problem, starts: Tensor) -> Tensor:
        """Where rays from starts (B, K, D) pass, the starts included: (B, K, R·(T+1), D)."""
        k, ray = starts.shape[1], problem.within_trust(self.config.ray)
        table = choices(problem, self.config.fan)
        actions = table[None, :, None].expand(len(starts), -1, ray, -1).repeat(1, k, 1, 1)
        known = None if problem.exogenous is None else problem.exogenous[:, :ray]
        after = problem.model.branch(problem.belief, starts.repeat_interleave(len(table), 1), actions, known).states
        after = torch.cat([after, after[:, :, -1:].expand(-1, -1, self.config.ray - ray, -1)], 2)
        return after.reshape(len(starts), k, -1, starts.shape[-1])

    @staticmethod
    def _or_nearest(needed: Tensor, apart: Tensor) -> Tensor:
        """`needed` (B, N), and the nearest of all where it is nowhere finite; apart (B, N) in steps."""
        nearest = apart <= apart.amin(1, keepdim=True)
        none = ~torch.isfinite(needed).any(1, keepdim=True)
        return torch.where(none & nearest, apart, needed)

    @staticmethod
    def _refused(graph: LatentGraph, problem: Problem, to: Tensor) -> Tensor:
        """(B, N, E): edges whose end, or the straight way there, breaks a guardrail."""
        b, n, e = len(problem), *graph.neighbour.shape
        start = graph.nodes[:, None].expand_as(to)
        states = torch.stack([start, (start + to) / 2, to], 2).flatten(0, 1)  # (N·E, 3, D)
        imagined = Imagined(states.expand(b, -1, -1, -1), problem.belief.context)
        actions = graph.action.flatten(0, 1)[:, None].expand(-1, 2, -1).expand(b, -1, -1, -1)
        return ~verdict(problem, imagined, actions, terms=()).feasible.view(b, n, e)

    def _towards(
        self, graph: LatentGraph, ways: Ways, state: Tensor, goal: Tensor, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sub-goal (B, D) of each problem, and the action of its way's first edge, else `spare`, (B, 1, A)."""
        rows = torch.arange(len(state), device=state.device)
        way, length = ways.nodes, (ways.nodes >= 0).sum(1)
        near = (graph.nodes[way[:, 0].clamp(min=0)] - state).norm(dim=1) <= 0.5 * graph.step
        index = self.config.ahead - 1 + near.long()  # the node where one stands is none of those ahead
        node = way[rows, index.clamp(max=way.shape[1] - 1)]
        known = torch.isfinite(ways.cost) & (index < length) & (node >= 0)
        towards = torch.where(known[:, None], graph.nodes[node.clamp(min=0)], goal)
        way = torch.cat([way, torch.full_like(way[:, :1], -1)], 1)
        edge = (graph.neighbour[way[:, 0].clamp(min=0)] == way[:, 1:2]) & (way[:, 1:2] >= 0)
        action = graph.action[way[:, 0].clamp(min=0), edge.to(torch.uint8).argmax(1)]
        return towards, torch.where(edge.any(1, keepdim=True), action, spare.to(action.dtype))[:, None]

    @staticmethod
    def _said(cost: float, length: int, nodes: int) -> str:
        if length and cost < torch.inf:
            return f"a way of about {cost:.0f} steps over {length} of {nodes} remembered states"
        return f"no way through the {nodes} remembered states: straight towards the goal"


_EXACT = "donot_use_mm_for_euclid_dist"


def _apart(states: Tensor, nodes: Tensor) -> Tensor:
    """(B, D), (N, D) -> (B, N), each pair on its own, so that it does not depend on the batch."""
    return (states[:, None] - nodes).norm(dim=-1)
