"""What sampling planners share: where the next decision starts, drawing choices, picking the best candidates.

Shapes: B problems, K candidates, E elites, H horizon, A action size, C choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.ground.rounds import Proposal
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import Categorical, fitted, shifted
from steersman.core import ConfigError, Problem, Streams


@dataclass(frozen=True)
class Warm:
    """Where the next decision starts: the last distribution's mean (B, H, A), or logits (B, H, C) if discrete."""

    mean: Tensor


class Choices(Proposal):
    """Discrete actions: a categorical distribution per step, the warm start mixed half with uniform choice."""

    def __init__(
        self, problem: Problem, horizon: int, samples: int, elites: int, momentum: float, floor: float,
        execute: int = 1, hold: int = 1,
    ) -> None:
        self.samples, self.elites, self.momentum, self.floor, self.hold = samples, elites, momentum, floor, hold
        self.streams, self.horizon = Streams(problem.seeds, problem.decision), horizon
        self.distribution = Categorical(len(problem), horizon, problem.action, problem.belief.state.device)
        uniform = self.distribution.probabilities
        flattened = 0.5 * start_from(problem, horizon, uniform, execute) + 0.5 * uniform
        self.distribution.probabilities = flattened
        self.suggested = problem.proposal

    def candidates(self, number: int) -> int:
        return self.samples

    def sample(self, number: int, count: int) -> Tensor:
        knots = -(-self.horizon // self.hold)
        uniform = self.streams.uniform(count, knots).repeat_interleave(self.hold, 2)[:, :, : self.horizon]
        actions = self.distribution.actions(uniform)
        actions[:, 0] = self.distribution.mode()
        if number == 0 and count > 1 and self.suggested is not None:
            actions[:, 1] = fitted(self.suggested, self.horizon)
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self.distribution.refit(best_of(actions, order, self.elites), self.momentum, self.floor)

    def warm(self) -> Warm:
        return Warm(self.distribution.probabilities)


def require_sizes(
    samples: int, iterations: int, elites: int, horizon: int, hold: int = 1, execute: int = 1
) -> None:
    """Sizes that every sampling planner needs to be sane."""
    if min(samples, iterations, elites, horizon, hold, execute) < 1 or elites > samples:
        raise ConfigError(
            "samples, iterations, elites, horizon, hold, execute >= 1 and elites <= samples",
            f"samples {samples}, iterations {iterations}, elites {elites}, horizon {horizon}, hold {hold}, "
            f"execute {execute}",
            "correct the planner's configuration",
        )


def best_of(actions: Tensor, order: Tensor, count: int) -> Tensor:
    """The `count` best (B, E, H, A) of (B, K, H, A), in their drawn order: sums do not depend on the ranking."""
    chosen = order[:, :count].sort(1).values
    return actions[torch.arange(len(actions), device=actions.device)[:, None], chosen]


def start_from(problem: Problem, horizon: int, default: Tensor, steps: int = 1) -> Tensor:
    """Where each problem's distribution starts: the last decision's, moved by `steps`, if the episode goes on."""
    if not isinstance(problem.warm, Warm) or problem.warm.mean.shape[0] != len(problem):
        return default
    moved = fitted(shifted(problem.warm.mean, steps), horizon).to(default)
    return torch.where((problem.decision > 0).view(-1, 1, 1).to(default.device), moved, default)
