"""Greedy descent: try a few constant actions for a step or two, take the one of least energy. The floor for planners.

Shapes: B problems, R rays, H steps looked ahead, A action size.
"""

from __future__ import annotations

import msgspec
from torch import Tensor

from steersman.actor.ground.configured import Configured
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.core import ConfigError, Plan, Planner, Problem, register


class Greedy(Configured["Greedy.Config"]):
    """Least energy among constant actions over a short look-ahead.

        a = argmin over R rays u of Σ_{t≤H} E(s_t),  s_t = f(s_{t-1}, u)

    Feasibility first, as every planner here; the task's fallback where no ray keeps every guardrail. It draws nothing
    at random. Where distance to the goal misleads (a wall between) it stays: that is what it is measured for.

    A task's horizon is not followed: looking further ahead is what the other planners are for. Its trusted horizon is.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="greedy"):
        """directions R (discrete actions: every choice); ahead H; execute: actions to carry out before deciding again,
        at most H."""

        directions: int = 32
        ahead: int = 1
        execute: int = 1

        def __post_init__(self) -> None:
            if self.directions < 1 or not 1 <= self.execute <= self.ahead:
                raise ConfigError(
                    "directions >= 1 and 1 <= execute <= ahead",
                    f"directions {self.directions}, execute {self.execute}, ahead {self.ahead}",
                    "look at least as far ahead as you act",
                )

        def build(self) -> Greedy:
            return Greedy(self)

    def plan(self, problem: Problem) -> Plan:
        fan = rays(problem.action, self.config.directions).to(problem.belief.state.device)
        ahead = problem.within_trust(self.config.ahead)
        return plan_in_rounds(problem, _Fan(fan, len(problem), ahead), 1, ahead)


class _Fan(Proposal):
    """Every ray once, for each problem."""

    def __init__(self, fan: Tensor, problems: int, ahead: int) -> None:
        self.fan, self.problems, self.ahead = fan, problems, ahead

    def candidates(self, number: int) -> int:
        return len(self.fan)

    def sample(self, number: int, count: int) -> Tensor:
        return self.fan[:count][None, :, None].expand(self.problems, -1, self.ahead, -1)

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        pass

    def warm(self) -> None:
        return None
