"""Predictive sampling: disturb the last plan at a few knots, keep the best. The simplest planner that is of use.

Shapes: B problems, K candidates, H horizon, A action size, P knots.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import fitted
from steersman.actor.sampling.drawing import Warm, amounts_from, require_sizes, start_from, warm_at
from steersman.actor.sampling.noise import in_chunks, steps_of
from steersman.core import Plan, Planner, Problem, Streams, Task, register


class PredictiveSampling(Configured["PredictiveSampling.Config"]):
    """Predictive sampling (Howell et al. 2022), for amounts and for choices.

        a^0 = μ,  a^k = clamp(μ + σ S ε^k),  μ <- the best candidate;  S (H, P) interpolates P knots over the horizon

    Iteration i disturbs by σ decay^i. Nothing is averaged, so nothing is said about the energies but their order, and
    the plan that is kept is always one that was imagined. One iteration, carried from decision to decision by the warm
    start, is the original; more of them with a decay make it a random search that converges.

    Choices: every knot of a candidate is drawn anew with probability σ, evenly, and held until the next knot.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="predictive-sampling"):
        """samples K, iterations; horizon when the task does not say.

        knots      P; 0 means one a step
        spline     between knots: "hold" the last one, "linear", or "cubic" (Catmull-Rom)
        spread     σ over half the action range; decay: its factor from one iteration to the next
        tolerance  above 0: stop where three iterations have improved the best energy by less than this share
        """

        samples: int = 128
        iterations: int = 4
        horizon: int = 15
        knots: int = 5
        spline: Literal["hold", "linear", "cubic"] = "linear"
        spread: float = 0.5
        decay: float = 0.7
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.samples, self.iterations, 1, self.horizon, execute=self.execute)
            require_ranges(self, {
                "knots >= 0": self.knots >= 0, "spread > 0": self.spread > 0, "0 < decay <= 1": 0 < self.decay <= 1,
                "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> PredictiveSampling:
            return PredictiveSampling(self)

    def rounds(self, task: Task) -> int:
        return self.config.iterations

    def resumed(self, problem: Problem, actions: Tensor) -> Warm:
        return warm_at(problem, actions)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        kind = _Choices if problem.action.kind == "discrete" else _Amounts
        proposal = kind(self.config, problem, horizon)
        return plan_in_rounds(problem, proposal, self.config.iterations, horizon, self.config.tolerance)


class _Disturbing(Proposal):
    """What amounts and choices share: the best candidate so far is the next nominal plan, (B, H, A)."""

    nominal: Tensor

    def __init__(self, config: PredictiveSampling.Config, problem: Problem, horizon: int) -> None:
        self.config, self.horizon, self.suggested = config, horizon, problem.proposal
        self.streams = Streams(problem.seeds, problem.decision)
        self.knots = min(config.knots or horizon, horizon)

    def candidates(self, number: int) -> int:
        return self.config.samples

    def disturbance(self, number: int) -> float:
        return float(self.config.spread * self.config.decay**number)

    def with_proposal(self, actions: Tensor, number: int) -> Tensor:
        actions[:, 0] = self.nominal
        if number == 0 and actions.shape[1] > 1 and self.suggested is not None:
            actions[:, 1] = fitted(self.suggested, self.horizon)
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self.nominal = actions[torch.arange(len(actions), device=actions.device), order[:, 0]]

    def warm(self) -> Warm:
        return Warm(self.nominal)


class _Amounts(_Disturbing):
    def __init__(self, config: PredictiveSampling.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.bounds = Bounds(problem.action, problem.belief.state)
        self.nominal = self.bounds.clamp(amounts_from(problem, horizon, self.bounds, config.execute))
        self.chunk, self.size = steps_of(problem.action)
        self.spline = spline(self.knots, horizon * self.chunk, config.spline).to(self.nominal.device)
        if self.suggested is not None:
            self.suggested = self.bounds.clamp(self.suggested)

    def sample(self, number: int, count: int) -> Tensor:
        noise = in_chunks((self.streams.normal(count, self.size, self.knots) @ self.spline.mT).mT, self.chunk)
        pushed = (self.disturbance(number) * self.bounds.half) * noise
        return self.with_proposal(self.bounds.clamp(self.nominal[:, None] + pushed), number)


class _Choices(_Disturbing):
    def __init__(self, config: PredictiveSampling.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        first = torch.zeros(len(problem), horizon, 1, dtype=torch.int64, device=problem.belief.state.device)
        self.nominal, self.choices = start_from(problem, horizon, first, config.execute), problem.action.choices
        self.held = spline(self.knots, horizon, "hold").argmax(1).to(first.device)  # (H,): the knot that rules a step

    def sample(self, number: int, count: int) -> Tensor:
        drawn = self.streams.integers(self.choices, count, self.knots)[..., self.held, None]
        anew = self.streams.uniform(count, self.knots)[..., self.held, None] < self.disturbance(number)
        return self.with_proposal(torch.where(anew, drawn, self.nominal[:, None]), number)


def spline(knots: int, horizon: int, kind: Literal["hold", "linear", "cubic"]) -> Tensor:
    """Matrix (H, P) from values at P evenly spaced knots to H steps; rows add up to 1.

    The first knot stands at the first step; the last one at the last step ("hold": rules the last H / P steps).
    """
    steps = torch.arange(horizon, dtype=torch.float64)
    if knots == 1:
        return torch.ones(horizon, 1)
    if kind == "hold":
        place = torch.div(steps * knots, horizon, rounding_mode="floor").long()
        return torch.nn.functional.one_hot(place, knots).float()
    place = steps * (knots - 1) / max(horizon - 1, 1)
    left = place.floor().clamp(max=knots - 2)
    x, one = place - left, torch.ones_like(place)
    if kind == "linear":
        parts = [(0, one - x), (1, x)]
    else:
        parts = [
            (-1, (-x + 2 * x**2 - x**3) / 2), (0, (2 - 5 * x**2 + 3 * x**3) / 2),
            (1, (x + 4 * x**2 - 3 * x**3) / 2), (2, (x**3 - x**2) / 2),
        ]
    matrix = torch.zeros(horizon, knots, dtype=torch.float64)
    for offset, share in parts:  # knots beyond the ends repeat the ends
        matrix.scatter_add_(1, (left + offset).clamp(0, knots - 1).long()[:, None], share[:, None])
    return matrix.float()
