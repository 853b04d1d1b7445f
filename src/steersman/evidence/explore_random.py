"""Exploration by chance inside the same guardrails: of candidate plans of held random actions, the first that keeps
them all. What curiosity is held against.

Knows planning problems, no world. Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.core import Cost, Imagined, Plan, Planner, Problem, Streams, Task, register


class RandomPlans(Configured["RandomPlans.Config"]):
    """The first of K plans that keeps every guardrail: what is left of the last plan, then new ones whose actions are
    drawn evenly within bounds and held for `hold` steps on average. Energies do not count.

    With hold = 1 it is white noise; a greater one comes farther.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="random-plans"):
        samples: int = 32
        hold: float = 8.0
        horizon: int = 15

        def build(self) -> RandomPlans:
            return RandomPlans(self)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        task = replace(problem.task, weights={_Nothing.name: 1.0})
        even = replace(problem, task=task, costs=(_Nothing(),))
        plan = plan_in_rounds(even, _Held(self.config, problem, horizon), 1, horizon)
        return replace(plan, energy=dict.fromkeys(problem.weights, plan.energy[_Nothing.name]))


class _Nothing(Cost):
    """0 for every step: ties keep their order, so the first candidate that is feasible is taken."""

    name: ClassVar[str] = "nothing"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        return actions.new_zeros(actions.shape[:3])


class _Held(Proposal):
    def __init__(self, config: RandomPlans.Config, problem: Problem, horizon: int) -> None:
        self.config, self.problem, self.horizon = config, problem, horizon
        self.bounds = Bounds(problem.action, problem.belief.state)
        self.streams = Streams(problem.seeds, problem.decision)
        self.chosen: Tensor | None = None

    def candidates(self, number: int) -> int:
        return self.config.samples

    def sample(self, number: int, count: int) -> Tensor:
        """(B, K, H, A): the action of a step is the one before unless it changes, with probability 1 / hold."""
        size = self.problem.action.size
        drawn = self.streams.uniform(count, self.horizon + 1, size + 1)
        fresh = self.bounds.middle + self.bounds.half * (2 * drawn[..., :size] - 1)
        change = drawn[..., size] < 1 / self.config.hold
        warm = self.problem.warm
        goes_on = isinstance(warm, Tensor) and len(warm) == len(self.problem)
        now, steps = fresh[:, :, 0], list[Tensor]()
        for t in range(self.horizon):
            now = torch.where(change[:, :, t, None], fresh[:, :, t + 1], now)
            if goes_on:
                known = t + 1 < self.horizon
                first = warm[:, t + 1] if known else now[:, 0]
                now = torch.cat([first[:, None], now[:, 1:]], 1)
            steps.append(now)
        return torch.stack(steps, 2)

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        first = scores.feasible.to(torch.uint8).argmax(1)
        self.chosen = actions[torch.arange(len(first)), first]

    def warm(self) -> Any:
        return self.chosen
