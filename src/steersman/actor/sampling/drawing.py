"""What sampling planners share: where the next decision starts, picking the best candidates.

Shapes: B problems, K candidates, E elites, H horizon, A action size, C choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from steersman.actor.ground.bounds import Bounds
from steersman.actor.sampling.distributions import Categorical, fitted, shifted
from steersman.core import ConfigError, Problem


@dataclass(frozen=True)
class Warm:
    """Where the next decision starts: the last distribution's mean (B, H, A), or logits (B, H, C) if discrete."""

    mean: Tensor


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


def amounts_from(problem: Problem, horizon: int, bounds: Bounds, steps: int = 1) -> Tensor:
    """Where each problem's amounts (B, H, A) start: see `start_from`; otherwise in the middle of their range."""
    return start_from(problem, horizon, bounds.middle.expand(len(problem), horizon, -1), steps)


def warm_at(problem: Problem, actions: Tensor) -> Warm:
    """The warm start at actions (B, H, A); of choices, all weight on each."""
    if problem.action.kind == "discrete":
        return Warm(one_hot(actions[..., 0].long(), problem.action.choices).float())
    return Warm(actions)


def choices_from(problem: Problem, horizon: int, steps: int = 1) -> Categorical:
    """Where each problem's choices start: see `start_from`, mixed half with uniform choice."""
    distribution = Categorical(len(problem), horizon, problem.action, problem.belief.state.device)
    uniform = distribution.probabilities
    distribution.probabilities = 0.5 * start_from(problem, horizon, uniform, steps) + 0.5 * uniform
    return distribution


def start_from(problem: Problem, horizon: int, default: Tensor, steps: int = 1) -> Tensor:
    """Where each problem's distribution starts: the last decision's, moved by `steps`, if the episode goes on."""
    if not isinstance(problem.warm, Warm) or problem.warm.mean.shape[0] != len(problem):
        return default
    moved = fitted(shifted(problem.warm.mean, problem.since(steps)), horizon).to(default)
    return torch.where((problem.decision > 0).view(-1, 1, 1).to(default.device), moved, default)
