"""The cross-entropy method: draw plans, keep the best, refit, repeat. Continuous and discrete actions.

Shapes: B problems, K candidates, E elites, H horizon, A action size.
"""

from __future__ import annotations

import msgspec
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import Categorical, Gaussian, fitted
from steersman.actor.sampling.drawing import Warm, amounts_from, best_of, choices_from, require_sizes, warm_at
from steersman.actor.sampling.noise import steps_of
from steersman.core import Plan, Planner, Problem, Streams, Task, register


class CEM(Configured["CEM.Config"]):
    """Cross-entropy method (Rubinstein 1999; settings of LeWM and PLDM: 300 candidates, 30 rounds, 30 elites).

        a^k = clamp(μ + σ ε^k), ε white noise held for `hold` steps;  (μ, σ) <- mean and deviation of the E best

    Candidate 0 of each round is μ itself; candidate 1 of the first round is a policy's proposal, if there is one.
    Discrete actions draw from a categorical distribution per step instead. The plan is the best candidate of all
    rounds. Candidates are ranked feasibility first; bounds hold for every candidate, the mean included.

    The next decision starts from μ moved by `execute` steps (`Problem.warm`), unless it is the first of an episode.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="cem"):
        """samples K, iterations, elites E; horizon when the task does not say.

        hold      steps for which noise is held: slow worlds need pushes that last. Within a chunk it always is
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

    def rounds(self, task: Task) -> int:
        return self.config.iterations

    def resumed(self, problem: Problem, actions: Tensor) -> Warm:
        return warm_at(problem, actions)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        kind = _Choices if problem.action.kind == "discrete" else _Amounts
        proposal = kind(self.config, problem, horizon)
        return plan_in_rounds(problem, proposal, self.config.iterations, horizon, self.config.tolerance)


class _Drawn(Proposal):
    """What amounts and choices share: a distribution that is refitted to the best."""

    distribution: Gaussian | Categorical

    def __init__(self, config: CEM.Config, problem: Problem, horizon: int) -> None:
        self.config, self.horizon = config, horizon
        self.chunk, self.size = steps_of(problem.action)
        self.streams, self.suggested = Streams(problem.seeds, problem.decision), problem.proposal

    def candidates(self, number: int) -> int:
        return self.config.samples

    def held(self, noise: Tensor) -> Tensor:
        """Noise (B, K, P, …) of each push, held for `hold` steps: (B, K, H, …)."""
        return noise.repeat_interleave(self.config.hold, 2)[:, :, : self.horizon]

    @property
    def pushes(self) -> int:
        return -(-self.horizon // self.config.hold)

    def with_proposal(self, actions: Tensor, number: int) -> Tensor:
        if number == 0 and actions.shape[1] > 1 and self.suggested is not None:
            actions[:, 1] = fitted(self.suggested, self.horizon)
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self.distribution.refit(best_of(actions, order, self.config.elites), self.config.momentum, self.config.floor)


class _Amounts(_Drawn):
    distribution: Gaussian

    def __init__(self, config: CEM.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        bounds = Bounds(problem.action, problem.belief.state)
        self.distribution = Gaussian(amounts_from(problem, horizon, bounds, config.execute), bounds, config.spread)
        if self.suggested is not None:
            self.suggested = bounds.clamp(self.suggested)

    def sample(self, number: int, count: int) -> Tensor:
        noise = self.held(self.streams.normal(count, self.pushes, self.size))
        noise = noise if self.chunk == 1 else noise.repeat(1, 1, 1, self.chunk)
        noise[:, 0] = 0
        return self.with_proposal(self.distribution.actions(noise), number)

    def warm(self) -> Warm:
        return Warm(self.distribution.mean)


class _Choices(_Drawn):
    distribution: Categorical

    def __init__(self, config: CEM.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.distribution = choices_from(problem, horizon, config.execute)

    def sample(self, number: int, count: int) -> Tensor:
        actions = self.distribution.actions(self.held(self.streams.uniform(count, self.pushes)))
        actions[:, 0] = self.distribution.mode()
        return self.with_proposal(actions, number)

    def warm(self) -> Warm:
        return Warm(self.distribution.probabilities)
