"""The cross-entropy method: draw plans, keep the best, refit, repeat. Continuous and discrete actions.

Shapes: B problems, K candidates, E elites, H horizon, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from steersman.actor.bounds import Bounds
from steersman.actor.configured import Configured, require_ranges
from steersman.actor.distributions import Categorical, Gaussian, fitted, shifted
from steersman.actor.rounds import Proposal, plan_in_rounds
from steersman.actor.scoring import Scores
from steersman.core import ConfigError, Plan, Problem, Streams


@dataclass(frozen=True)
class Warm:
    """Where the next decision starts: the last distribution's mean (B, H, A), or logits (B, H, C) if discrete."""

    mean: Tensor


class CEM(Configured["CEM.Config"]):
    """Cross-entropy method (Rubinstein 1999; settings of LeWM and PLDM: 300 candidates, 30 rounds, 30 elites).

        a^k = clamp(μ + σ ε^k), ε white noise held for `hold` steps;  (μ, σ) <- mean and deviation of the E best

    Candidate 0 of each round is μ itself; candidate 1 of the first round is a policy's proposal, if there is one.
    Discrete actions draw from a categorical distribution per step instead. The plan is the best candidate of all
    rounds. Candidates are ranked feasibility first; bounds hold for every candidate, the mean included.

    The next decision starts from μ moved by `execute` steps (`Problem.warm`), unless it is the first of an episode.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="cem"):
        """samples K, iterations, elites E; horizon when the task does not say.

        hold      steps for which noise is held: slow worlds need pushes that last
        spread    first deviation over half the action range
        momentum  share of the old distribution that a refit keeps
        floor     smallest deviation over half the range (discrete: share of uniform choice)
        execute   actions of a plan to carry out before the next decision
        tolerance above 0: stop where three rounds have improved the best energy by less than this share
        """

        samples: int = 300
        iterations: int = 30
        elites: int = 30
        horizon: int = 15
        hold: int = 1
        spread: float = 0.5
        momentum: float = 0.0
        floor: float = 0.0
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.samples, self.iterations, self.elites, self.horizon, self.hold, self.execute)
            require_ranges(self, {
                "spread > 0": self.spread > 0, "0 <= momentum < 1": 0 <= self.momentum < 1,
                "0 <= floor <= 1": 0 <= self.floor <= 1, "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> CEM:
            return CEM(self)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        proposal: Proposal
        if problem.action.kind == "discrete":
            c = self.config
            proposal = Choices(problem, horizon, c.samples, c.elites, c.momentum, c.floor, c.execute, c.hold)
        else:
            proposal = _Pushes(self.config, problem, horizon)
        return plan_in_rounds(problem, proposal, self.config.iterations, horizon, self.config.tolerance)


class _Pushes(Proposal):
    """Continuous actions."""

    def __init__(self, config: CEM.Config, problem: Problem, horizon: int) -> None:
        self.config, self.streams = config, Streams(problem.seeds, problem.decision)
        bounds = Bounds(problem.action, problem.belief.state)
        self.size, self.horizon = problem.action.size, horizon
        self.suggested = problem.proposal
        start = start_from(problem, horizon, bounds.middle.expand(len(problem), horizon, -1), config.execute)
        self.distribution = Gaussian(start, bounds, config.spread)

    def candidates(self, number: int) -> int:
        return self.config.samples

    def sample(self, number: int, count: int) -> Tensor:
        knots = -(-self.horizon // self.config.hold)
        noise = self.streams.normal(count, knots, self.size).repeat_interleave(self.config.hold, 2)
        noise = noise[:, :, : self.horizon]
        noise[:, 0] = 0
        actions = self.distribution.actions(noise)
        if number == 0 and count > 1 and self.suggested is not None:
            actions[:, 1] = self.distribution.bounds.clamp(fitted(self.suggested, self.horizon))
        return actions

    def refit(self, actions: Tensor, scores: Scores, order: Tensor) -> None:
        self.distribution.refit(best_of(actions, order, self.config.elites), self.config.momentum, self.config.floor)

    def warm(self) -> Warm:
        return Warm(self.distribution.mean)


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

    def refit(self, actions: Tensor, scores: Scores, order: Tensor) -> None:
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
