"""The augmented Lagrangian: gradient descent with a price on every guardrail, raised until it is kept.

Shapes: B problems, R restarts, G guardrails, H horizon, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.descent.descent import Descent, refuse_choices, slope_of
from steersman.actor.descent.quasi_newton import QuasiNewton
from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, Searched, Spending, decide, search_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import fitted, shifted
from steersman.actor.sampling.drawing import Warm, require_sizes
from steersman.core import Plan, Planner, Problem, Task, register
from steersman.core.records import where


@dataclass(frozen=True)
class WarmMultipliers(Warm):
    """The last solution (B, H, A), and the price of every guardrail at every step (B, G, H)."""

    multipliers: Tensor


class AugmentedLagrangian(Configured["AugmentedLagrangian.Config"]):
    """Augmented Lagrangian (Hestenes 1969, Powell 1969; for inequalities Rockafellar 1973).

        L(a) = J + Σ λ g + Σ ρ c max(0, g)²   (where λ + 2 ρ c g < 0, both terms give way to -λ² / 4ρc)
        a <- argmin L by `inner` steps of L-BFGS within bounds;  λ <- max(0, λ + 2 ρ c g);  ρ <- min(2 ρ, 10⁴)

    for `outer` steps from ρ = 1, from several starts at once. c = |∇J| / |∇Σg|² at the first look, in units of half
    the action range: ρ then means the same whatever units the costs and each guardrail have. At the end λ are the
    multipliers of the KKT conditions; they travel with the warm start.

    The minimum of L lies on a guardrail from either side, and a guardrail is not kept by being broken a little: the
    way from the best feasible iterate to the solution is searched for the last feasible point (`fan` points, `polish`
    times, each time between neighbours of the best). A problem without a feasible iterate asks for more room than
    there is violation, so that the solution moves inside. What is returned is feasible as imagined, or the fallback.

    A step is a forward and a backward pass: 2 H predictor calls a restart; the first look takes one more for each of G
    guardrails, a point of the fan one. In all (R (2 outer inner + G) + fan polish) H. Continuous actions; costs that
    can be differentiated. A guardrail that cannot is kept by the choice among iterates alone.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="augmented-lagrangian"):
        """restarts R; outer and inner steps; horizon when the task does not say.

        rho, growth, most  the first ρ, its factor from one outer step to the next, and its limit
        radius             longest inner step, in units of half the action range
        fan, polish        points between the best feasible iterate and the solution, and how often
        spread, beta       how far restarts are apart, over half the action range, and their colour
        tolerance          above 0: a problem is solved once an outer step moves no action by more than this (in
                           units of half the range) and breaks nothing by more than this
        """

        restarts: int = 4
        outer: int = 8
        inner: int = 30
        horizon: int = 15
        rho: float = 1.0
        growth: float = 2.0
        most: float = 1e4
        radius: float = 0.5
        spread: float = 0.5
        beta: float = 2.0
        fan: int = 32
        polish: int = 3
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.restarts, min(self.outer, self.inner), 1, self.horizon, execute=self.execute)
            require_ranges(self, {
                "rho > 0": self.rho > 0, "growth >= 1": self.growth >= 1, "most >= rho": self.most >= self.rho,
                "radius > 0": self.radius > 0, "spread >= 0": self.spread >= 0, "beta >= 0": self.beta >= 0,
                "fan >= 3": self.fan >= 3, "polish >= 0": self.polish >= 0, "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> AugmentedLagrangian:
            return AugmentedLagrangian(self)

    def rounds(self, task: Task) -> int:
        return self.config.outer * self.config.inner + (self.config.polish if task.guardrails else 0)

    def plan(self, problem: Problem) -> Plan:
        refuse_choices(problem)
        config, horizon = self.config, problem.horizon(self.config.horizon)
        spending = Spending(problem, horizon)
        found = search_in_rounds(problem, _Priced(config, problem, horizon), config.outer * config.inner, spending)
        if config.polish and problem.task.guardrails and spending.affords(1):
            fan = _Fan(problem, found, config.fan)
            found = found.followed(search_in_rounds(problem, fan, config.polish, spending))
        warm = replace(found.warm, mean=where(found.best.feasible, found.best.actions, found.warm.mean))
        return decide(problem, replace(found, warm=warm), spending)


class _Priced(Proposal):
    """The restarts, and what every guardrail costs them: λ and extra room, (B, R, G, H) and (B, R, 1, 1)."""

    def __init__(self, config: AugmentedLagrangian.Config, problem: Problem, horizon: int) -> None:
        self.config, self.number, self.rho, self.guardrails = config, 0, config.rho, len(problem.task.guardrails)
        start = Descent(problem, horizon, config.restarts, config.spread, config.beta, config.execute)
        standing = start.actions()
        self.descent = QuasiNewton(start.bounds, standing, config.radius)
        prices = last_prices(problem, horizon, config.execute).to(standing)
        self.prices = prices[:, None].expand(-1, config.restarts, -1, -1)
        self.unit = torch.ones_like(self.prices[:, :1, :, :1])  # c, (B, 1, G, 1)
        self.room = torch.zeros_like(standing[..., :1, :1])
        self.met = torch.zeros(len(problem), dtype=torch.bool, device=standing.device)  # a feasible iterate
        self.before = standing
        self.solved = torch.zeros_like(self.met)
        self.merit = standing.new_full(standing.shape[:2], torch.inf)
        self.margins = torch.zeros_like(self.prices)
        self.best = torch.zeros_like(self.met, dtype=torch.int64)

    def candidates(self, number: int) -> int:
        return self.descent.restarts

    def passes(self, number: int) -> int:
        return 2 + self.guardrails if number == 0 else 2

    def sample(self, number: int, count: int) -> Tensor:
        self.number = number
        if count < self.descent.restarts:
            best = self.merit.argsort(dim=1, stable=True)[:, :count]
            rows = torch.arange(len(best), device=best.device)[:, None]
            self.descent.select(best)
            for name in ("prices", "room", "before", "merit", "margins"):
                setattr(self, name, getattr(self, name)[rows, best])
            self.best = torch.zeros_like(self.best)
        return self.descent.actions().requires_grad_()

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        energy = scores.energy
        margins = torch.stack(list(scores.margins.values()), 2).to(energy) if scores.margins else self.prices
        if self.number == 0 and scores.margins:
            self.unit = self._units(energy, margins, actions)
        rho = self.rho * self.unit
        over = self.prices + 2 * rho * (margins + self.room)
        paid = (over.clamp(min=0).square() - self.prices.square()) / (4 * rho)
        lagrangian = energy + paid.sum((2, 3))
        slope = slope_of(lagrangian, actions)
        with torch.no_grad():
            lagrangian = lagrangian.detach().nan_to_num(nan=torch.inf)
            kept = self.descent.step(lagrangian, slope)
            self.merit = torch.where(kept, lagrangian, self.merit)
            self.margins = torch.where(kept[..., None, None], margins.detach(), self.margins)
            self.met = self.met | scores.feasible.any(1)
            if self.number % self.config.inner == self.config.inner - 1:
                self._raise_prices()

    def _units(self, energy: Tensor, margins: Tensor, actions: Tensor) -> Tensor:
        """c of each guardrail: |∇J| / |∇Σg|², means over restarts; 1 where either has no slope."""

        def steepness(value: Tensor) -> Tensor:
            if not value.requires_grad:
                return torch.zeros_like(value[:, 0])
            slope = slope_of(value, actions, keep=True) * self.descent.bounds.half
            return slope.nan_to_num(posinf=0.0, neginf=0.0).square().sum((2, 3)).sqrt().mean(1)

        along = torch.stack([steepness(margins[:, :, i].sum(-1)) for i in range(margins.shape[2])], 1)
        unit = steepness(energy)[:, None] / along.square()
        usual = unit.isfinite() & (unit > 0)
        return torch.where(usual, unit, torch.ones_like(unit))[:, None, :, None]

    def _raise_prices(self) -> None:
        broken = self.margins.clamp(min=0).nan_to_num(posinf=0.0).amax((2, 3), keepdim=True)
        over = self.prices + 2 * self.rho * self.unit * (self.margins + self.room)
        self.prices = torch.where(over.isfinite(), over.clamp(min=0), self.prices)
        self.room = torch.where(self.met[:, None, None, None], 0.0, self.room + broken)
        self.rho = min(self.rho * self.config.growth, self.config.most)
        self.descent.forget()
        standing, best = self.descent.standing(), self.merit.argmin(1, keepdim=True)
        if self.config.tolerance:
            unit = (standing - self.before).abs() / self.descent.bounds.half
            still = (unit.amax((2, 3)) <= self.config.tolerance) & (broken[:, :, 0, 0] <= self.config.tolerance)
            self.solved = still.gather(1, best)[:, 0]
        self.best, self.before = best[:, 0], standing
        self.merit = torch.full_like(self.merit, torch.inf)

    def settled(self) -> Tensor | None:
        return self.solved if self.config.tolerance else None

    def warm(self) -> WarmMultipliers:
        best = torch.where(self.merit.isfinite().any(1), self.merit.argmin(1), self.best)
        rows = torch.arange(len(best), device=best.device)
        return WarmMultipliers(self.descent.standing()[rows, best], self.prices[rows, best])


class _Fan(Proposal):
    """Points on the way from the best feasible iterate to the solution, closer together from round to round."""

    def __init__(self, problem: Problem, found: Searched, points: int) -> None:
        self.bounds, self.points, self.last = Bounds(problem.action, problem.belief.state), points, found.warm
        end = self.bounds.unit(found.warm.mean)
        start = torch.where(found.best.feasible[:, None, None], self.bounds.unit(found.best.actions), end)
        self.start, self.way = start, end - start
        self.low, self.high = torch.zeros_like(end[:, 0, 0]), torch.ones_like(end[:, 0, 0])
        self.places = self.low[:, None]

    def candidates(self, number: int) -> int:
        return self.points

    def sample(self, number: int, count: int) -> Tensor:
        share = torch.linspace(0, 1, count, device=self.low.device) if count > 1 else torch.ones_like(self.low[:1])
        self.places = self.low[:, None] + (self.high - self.low)[:, None] * share
        return self.bounds.action(self.start[:, None] + self.places[..., None, None] * self.way[:, None])

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        around = (order[:, :1] + torch.tensor([-1, 1], device=order.device)).clamp(0, self.places.shape[1] - 1)
        self.low, self.high = self.places.gather(1, around).unbind(1)

    def warm(self) -> WarmMultipliers:
        return self.last


def last_prices(problem: Problem, horizon: int, execute: int) -> Tensor:
    """Where λ (B, G, H) start: the last decision's, moved by what was executed, or 0."""
    zero = problem.belief.state.new_zeros(len(problem), max(len(problem.task.guardrails), 1), horizon)
    warm = problem.warm
    if not isinstance(warm, WarmMultipliers) or warm.multipliers.shape[:2] != zero.shape[:2]:
        return zero
    moved = fitted(shifted(warm.multipliers[..., None], problem.since(execute)), horizon)[..., 0].to(zero)
    return torch.where((problem.decision > 0).view(-1, 1, 1).to(zero.device), moved, zero)
