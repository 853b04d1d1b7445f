"""Gradient descent on actions, through the world model and the costs, from several starts at once.

Shapes: B problems, R restarts, H horizon, A action size.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor

from steersman.actor.descent.descent import Descent, fading, refuse_choices, slope_of
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.drawing import Warm, require_sizes, warm_at
from steersman.core import Plan, Planner, Problem, Task, register


class Gradient(Configured["Gradient.Config"]):
    """First-order descent with restarts.

        a <- a - η d(∇_a J)    while every guardrail holds;    a <- a - η d(∇_a Σ max(0, g))    while one is broken

    Switching to the violation's gradient where there is a violation (Polyak 1967) needs no weight between the task and
    a guardrail; for a plan that rests on a guardrail, `AugmentedLagrangian` is the better one. Every iterate is a
    candidate, and the plan is the best feasible one of all restarts and steps, so a step too far costs nothing. The
    step size η fades from `rate` to a hundredth of it.

    A step is a forward and a backward pass and counts as 2 H predictor calls a restart, the look at the end as H: in
    all R (2 `steps` + 1) H. Where the budget affords no more, the best restarts go on alone.

    The next decision starts from the best restart, moved by `execute` steps. Continuous actions only.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gradient"):
        """restarts R, steps; horizon when the task does not say.

        optimiser    "adam", or "sgd": plain steps, whose size follows the energy's scale
        rate         step size η in units of half the action range
        momentum     of either optimiser
        keep_within  bounds by projection, or by a tanh
        spread       how far restarts are apart, over half the action range; beta: their colour (2: pushes that last)
        tolerance    above 0: stop where three steps have improved the best energy by less than this share
        """

        restarts: int = 8
        steps: int = 40
        horizon: int = 15
        optimiser: Literal["adam", "sgd"] = "adam"
        rate: float = 0.1
        momentum: float = 0.8
        keep_within: Literal["project", "tanh"] = "project"
        spread: float = 0.5
        beta: float = 2.0
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.restarts, self.steps, 1, self.horizon, execute=self.execute)
            require_ranges(self, {
                "rate > 0": self.rate > 0, "0 <= momentum < 1": 0 <= self.momentum < 1, "spread >= 0": self.spread >= 0,
                "beta >= 0": self.beta >= 0, "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> Gradient:
            return Gradient(self)

    def rounds(self, task: Task) -> int:
        return self.config.steps + 1

    def resumed(self, problem: Problem, actions: Tensor) -> Warm:
        return warm_at(problem, actions)

    def plan(self, problem: Problem) -> Plan:
        refuse_choices(problem)
        horizon = problem.horizon(self.config.horizon)
        proposal = _Steps(self.config, problem, horizon)
        return plan_in_rounds(problem, proposal, self.rounds(problem.task), horizon, self.config.tolerance)


class _Steps(Proposal):
    """Where the restarts stand; learning from a round is one step. The last round only looks."""

    def __init__(self, config: Gradient.Config, problem: Problem, horizon: int) -> None:
        self.config, self.number = config, 0
        self.descent = Descent(
            problem, horizon, config.restarts, config.spread, config.beta, config.execute, config.keep_within,
            config.optimiser, config.momentum,
        )
        self.order: Tensor | None = None
        self.best = self.descent.actions()[:, 0]

    def candidates(self, number: int) -> int:
        return self.descent.restarts

    def passes(self, number: int) -> int:
        return 2 if number < self.config.steps else 1

    def sample(self, number: int, count: int) -> Tensor:
        self.number = number
        if count < self.descent.restarts:
            index = torch.arange(count).expand(len(self.best), -1) if self.order is None else self.order[:, :count]
            self.descent.select(index.to(self.best.device))
        return self.descent.actions().requires_grad_(number < self.config.steps)

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self.order, plain = order, actions.detach()
        self.best = plain[torch.arange(len(plain), device=plain.device), order[:, 0]]
        if self.number < self.config.steps:
            lost = ~scores.energy.isfinite()
            objective = torch.where(scores.feasible | lost, scores.energy, scores.violation.to(scores.energy))
            slope = slope_of(objective, actions)
            with torch.no_grad():
                self.descent.step(slope, self.config.rate * fading(self.number, self.config.steps))

    def warm(self) -> Warm:
        return Warm(self.best)
