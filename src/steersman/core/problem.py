"""What a planner gets and what it returns. No algorithm.

Shapes: B problems, K candidates, S scenarios, H horizon, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from steersman.core.boxes import Cost
from steersman.core.errors import PlanningError
from steersman.core.signature import ActionSpec
from steersman.core.task import Task
from steersman.core.types import Belief, Imagined
from steersman.core.world_model import WorldModel


@dataclass(frozen=True)
class Problem:
    """B planning problems that share a model, costs and a task; what a planner gets.

    belief     (B, …) where each problem starts
    costs      the terms that the task may weigh
    action     bounds: a planner never returns an action outside them
    seeds      (B,) int64: all randomness of problem b comes from seeds[b] and decision[b], whatever its neighbours
    decision   (B,) int64 number of this decision within its episode
    exogenous  (B, H, E) or None, known in advance
    warm       what the planner returned in `Plan.warm` for the decision before, or None
    surprise   (B,) or None: log of how far each moment lies from what was foreseen, -inf where nothing was
    passed     steps of the model that have passed since then; None: as many as the planner commits to
    proposal   (B, H, A) or None: a policy's suggestion, which planners that begin somewhere begin with (`actor.Seeded`)
    """

    model: WorldModel
    belief: Belief
    costs: tuple[Cost, ...]
    task: Task
    action: ActionSpec
    seeds: Tensor
    decision: Tensor
    exogenous: Tensor | None = None
    warm: Any = None
    proposal: Tensor | None = None
    passed: int | None = None
    surprise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.belief)

    def since(self, execute: int) -> int:
        """Steps by which the plan before is to be moved on; execute: the planner's own number of them."""
        return execute if self.passed is None else self.passed

    @property
    def weights(self) -> Mapping[str, float]:
        """Name -> weight of every term that counts: the task's, and 1 for intrinsic costs that it does not name."""
        own = {cost.name: 1.0 for cost in self.costs if cost.intrinsic and cost.name not in self.task.weights}
        return {**self.task.weights, **own}

    @property
    def silenced(self) -> tuple[str, ...]:
        """Names of the intrinsic costs that the task weighs 0."""
        return tuple(c.name for c in self.costs if c.intrinsic and self.task.weights.get(c.name) == 0)

    def rows(self, index: Tensor) -> Problem:
        """Some of the problems: index is a mask (B,) or indices; `warm` and `proposal` are left behind.

        Where the goal is code, which is one for all problems, only all of them can be had.
        """
        n = len(self)
        chosen = torch.arange(n)[index.cpu()]
        if len(chosen) == n and torch.equal(chosen, torch.arange(n)):
            return replace(self, warm=None, proposal=None)
        exogenous = None if self.exogenous is None else self.exogenous[index]
        return replace(
            self, belief=self.belief.rows(index), task=self.task.rows(index, n), seeds=self.seeds[chosen],
            decision=self.decision[chosen], exogenous=exogenous, warm=None, proposal=None,
            surprise=None if self.surprise is None else self.surprise[chosen],
        )

    def horizon(self, own: int) -> int:
        """Steps to look ahead: the task's wish, else the planner's `own`; never beyond what is trusted.

        Raises:
            PlanningError: fewer than one.
        """
        return self.within_trust(self.task.horizon or own)

    def within_trust(self, steps: int) -> int:
        """`steps`, or what is trusted if that is less.

        Raises:
            PlanningError: no step is trusted.
        """
        trusted = self.task.trusted
        if trusted is not None and trusted < 1:
            raise PlanningError("a trusted horizon of at least 1 step", f"{trusted}", "train the model for longer")
        return steps if trusted is None else min(steps, trusted)


@dataclass(frozen=True)
class Plan:
    """What a planner decided for each of B problems.

    actions   (B, H, A) within bounds; actions[:, 0] is to be executed next
    imagined  what the model expects of them (K = 1)
    energy    name of a cost term -> (B, H), weighted
    feasible  (B,) bool: every guardrail holds at every imagined step; False: actions hold the declared fallback
    kept      (B,) int64 candidates (or graph nodes) that met all guardrails
    vetoed    name of a guardrail -> (B,) int64 candidates that it refused
    reason    B sentences: why this action
    calls     (B,) int64 predictor calls spent
    seconds   wall-clock time of the decision
    warm      opaque; hand it back in the next Problem
    rounds    how often the plan was written anew on the way to this one
    signals   name -> (B,): what a gate of deliberation read, and under "share" what it spent (`actor.Deliberate`)
    """

    actions: Tensor
    imagined: Imagined
    energy: Mapping[str, Tensor]
    feasible: Tensor
    kept: Tensor
    vetoed: Mapping[str, Tensor]
    reason: tuple[str, ...]
    calls: Tensor
    seconds: float
    warm: Any = None
    rounds: int = 1
    signals: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def action(self) -> Tensor:
        """(B, A): what to do now."""
        return self.actions[:, 0]
