"""Planner: Mode 2. The abstract class and what it declares about itself; no algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from steersman.core.boxes import Readout
from steersman.core.latent_graph import GraphConfig, LatentGraph
from steersman.core.levels import Level
from steersman.core.problem import Plan, Problem
from steersman.core.records import TensorRecord
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.way_graph import WaySource

GraphSource = Callable[[GraphConfig, int], LatentGraph]
"""How the graph is built, and the number of constant actions that neighbours are tried with -> the graph, when first
needed."""


class Planner(ABC):
    """Mode 2: search for actions that minimise energy and keep every guardrail.

    Every planner keeps actions within bounds, gives the same plan to a problem alone as in a batch, honours the
    budget, and answers an infeasible problem with the task's fallback and `feasible = False`.
    """

    config: Any = None
    """Its registered Config, where one builds it: what recorded decisions are made again with."""

    execute: int = 1
    """How many actions of a plan are carried out before the next decision."""
    horizon: int | None = None
    """Steps that it looks ahead where the task does not say; None: not a number that can be said beforehand."""

    @abstractmethod
    def plan(self, problem: Problem) -> Plan: ...

    def commits(self, task: Task) -> int:
        """`execute` for this task. Some planners look again after one action where the task has guardrails."""
        return self.execute

    def rounds(self, task: Task) -> int:
        """How often a decision writes its plan anew, where neither budget nor tolerance ends it before; 1 where a plan
        is made in one go."""
        return 1

    def level(self, task: Task) -> Level:
        """What changes while it plans, and how often: the plan, in each round of each decision."""
        return Level("plan", "actions", " + ".join(task.weights), "the belief", self.commits(task) / self.rounds(task))

    def inside(self) -> tuple[Planner, ...]:
        """The planners that it asks."""
        return ()

    def around(self, wrap: Callable[[Planner], Planner]) -> Planner:
        """The same planner, where what searches in it is `wrap` of that. Override it in one that filters what another
        planner wants: a filter stays outside."""
        return wrap(self)

    def resumed(self, problem: Problem, actions: Tensor) -> Any:
        """A warm start from which the search goes on from actions (B, H, A); None: there is none of that kind."""
        return None

    def wants_latent_goal(self) -> bool:
        """Whether an observation that is the goal is to be encoded, even where it could be read as columns."""
        return any(planner.wants_latent_goal() for planner in self.inside())

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        """Told once, by the agent that it plans for, before it plans. Override it where a configuration names
        columns."""
        for planner in self.inside():
            planner.prepare(signature, readout, latent_shape)

    def remember(self, source: GraphSource) -> None:
        """Told where a graph of remembered states comes from. Override it where one is searched."""
        for planner in self.inside():
            planner.remember(source)

    def recall(self, source: WaySource) -> None:
        """Told where a graph of ways comes from. Override it where one is valued."""
        for planner in self.inside():
            planner.recall(source)

    def remembered(self) -> tuple[TensorRecord, ...]:
        """The graphs of remembered states that it searches, those of planners inside too."""
        return tuple(graph for planner in self.inside() for graph in planner.remembered())
