"""Newton's method on actions: few iterations with curvature, where a gradient planner takes many without.

Shapes: B problems, K candidates, H horizon, A action size, n = H·A unknowns, G guardrails.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.actor.descent.augmented_lagrangian import WarmMultipliers, last_prices
from steersman.actor.descent.descent import refuse_choices, slope_of
from steersman.actor.descent.quadratic import even, solve_quadratic
from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import fitted
from steersman.actor.sampling.drawing import amounts_from, require_sizes
from steersman.actor.sampling.noise import coloured_basis
from steersman.core import Plan, Planner, Problem, Streams, Task, register

_DELTA = 0.02  # between the points whose gradients tell the curvature, in units of half the action range
_SHRINK = 1e-3  # least curvature, as a share of the greatest
_HALVINGS = 8  # points of a line search: 1, 1/2, 1/4, …


class Newton(Configured["Newton.Config"]):
    """Sequential quadratic programming (Wilson 1963, Han 1977), in units u of half the action range, started warm.

        H e_j = (∇L(u + δ e_j) - ∇L(u)) / δ,  L = J + Σ λ g      g the guardrails' margins, λ their prices
        G e_j = (g(u + δ e_j) - g(u)) / δ                         both from one imagination of n + 1 candidates
        d, λ = argmin over d of ½ dᵀ|H|d + ∇Jᵀd,   g + G d + r <= 0,   |u + d| <= 1          (`solve_quadratic`)
        u <- u + s d,  s = 1, 1/2, … 1/128: the best of one more imagination by an augmented Lagrangian
        r <- r + 1.5 max g while a guardrail is broken, else r / 2

    |H| is H with the absolute values of its eigenvalues, at least a thousandth of the greatest. One iteration solves an
    LQR, with bounds or linear guardrails too. Prices travel with the warm start, so that from one decision to the next
    few iterations follow a solution that moves (real-time iteration, Diehl et al. 2005).

    The first round only looks: the last plan moved by what was executed, a policy's proposal, and disturbed copies of
    the plan (spectrum 1 / f^beta). Newton starts from the one of least energy among those that break guardrails no more
    than the plan does, so a better valley may be entered; nothing else protects it from a poor one. Guardrails are
    exact at the end: from the best feasible candidate the way towards the last iterate is searched for the last
    feasible point. What is returned is feasible as imagined, or the fallback.

    For smooth models and costs, continuous actions, and n up to about a hundred: an iteration takes 2 (n + 1) + 8
    passes over the horizon, each H predictor calls; the look takes `samples`, the end 16. Guardrails need no slope.

    The line is judged by J + Σ (max(0, λ + 2ρ(g + r))² - λ²) / 4ρ, ρ = |H| H² / |Σ G|² of the first iteration: units do
    not matter, and no full step is refused for the little by which guardrails bend (Maratos 1978).
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="newton"):
        """iterations; samples of the first look; horizon when the task does not say.

        spread, beta  how far the first look reaches, over half the action range, and its colour (2: pushes that last)
        tolerance     above 0: a problem whose guardrails hold is solved once a step moves no action by more than this
        """

        iterations: int = 3
        samples: int = 32
        horizon: int = 15
        spread: float = 0.3
        beta: float = 2.0
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.samples, self.iterations, 1, self.horizon, execute=self.execute)
            require_ranges(self, {
                "spread >= 0": self.spread >= 0, "beta >= 0": self.beta >= 0, "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> Newton:
            return Newton(self)

    def rounds(self, task: Task) -> int:
        return 1 + 2 * self.config.iterations + bool(task.guardrails)

    def plan(self, problem: Problem) -> Plan:
        refuse_choices(problem)
        horizon = problem.horizon(self.config.horizon)
        iterate = _Iterate(self.config, problem, horizon)
        return plan_in_rounds(problem, iterate, self.rounds(problem.task), horizon)


class _Iterate(Proposal):
    """Where each problem stands: u (B, n), its direction, prices λ (B, G, H), the best feasible point so far.

    Rounds: a look; curvature and line search in turn; an end. A problem that is settled goes on unseen.
    """

    def __init__(self, config: Newton.Config, problem: Problem, horizon: int) -> None:
        self.config, self.problem, self.horizon = config, problem, horizon
        self.bounds = Bounds(problem.action, problem.belief.state)
        self.u = self.bounds.unit(amounts_from(problem, horizon, self.bounds, config.execute)).flatten(1)
        self.direction = torch.zeros_like(self.u)
        self.seen: tuple[Tensor, Tensor | None] | None = None
        self.slack_round = 1 + 2 * config.iterations
        self.prices = last_prices(problem, horizon, config.execute).to(self.u)
        self.rho = torch.zeros_like(self.u[:, :1, None])  # (B, 1, 1); 0: no guardrail has shown a slope yet
        self.room = torch.zeros_like(self.rho)
        self.best, self.best_energy = self.u, torch.full_like(self.u[:, 0], torch.inf)
        self.over = torch.zeros(len(problem), dtype=torch.bool, device=self.u.device)
        self.number, self.whole = 0, True

    def candidates(self, number: int) -> int:
        if number == 0:
            return self.config.samples
        if number == self.slack_round:
            return 2 * _HALVINGS
        return self.u.shape[1] + 1 if number % 2 else _HALVINGS

    def passes(self, number: int) -> int:
        return 2 if number % 2 and number < self.slack_round else 1

    def sample(self, number: int, count: int) -> Tensor:
        self.number, self.whole = number, count == self.candidates(number)
        if number == 0:
            points = self._looks(count)
        elif number == self.slack_round:
            share = torch.linspace(1, 0, count, device=self.u.device)[:, None]
            points = torch.lerp(self.best[:, None], self.u[:, None], share)
        elif number % 2:
            points = self._neighbours()[:, :count]
        else:
            self._aim()
            scale = 0.5 ** torch.arange(count, device=self.u.device)[:, None]
            points = (self.u[:, None] + scale * self.direction[:, None]).clamp(-1, 1)
        actions = self.bounds.action(points.unflatten(2, (self.horizon, -1)))
        return actions.requires_grad_(self.passes(number) > 1)

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self._remember(actions.detach(), scores, order)
        if self.number == 0:
            safer = scores.violation <= scores.violation[:, :1]
            first = torch.where(safer, scores.energy, torch.inf).argmin(1)
            self.u = self.bounds.unit(_picked(actions, first)).flatten(1)
        elif self.number < self.slack_round and self.number % 2 and self.whole:
            self._look_around(actions, scores)
        elif self.number < self.slack_round and not self.number % 2:
            self._walk(actions, scores)

    def settled(self) -> Tensor | None:
        return self.over if self.config.tolerance else None

    def warm(self) -> WarmMultipliers:
        return WarmMultipliers(self.bounds.action(self.u.unflatten(1, (self.horizon, -1))), self.prices)

    def _looks(self, count: int) -> Tensor:
        colours = coloured_basis(self.horizon, self.config.beta).to(self.u.device)
        draws = Streams(self.problem.seeds, self.problem.decision).normal(count, len(self.bounds.half), len(colours))
        noise = (draws @ colours).mT.flatten(2)
        noise[:, 0] = 0
        points = (self.u[:, None] + self.config.spread * noise).clamp(-1, 1)
        if self.problem.proposal is not None and count > 1:
            points[:, 1] = self.bounds.unit(fitted(self.problem.proposal, self.horizon)).flatten(1)
        return points

    def _neighbours(self) -> Tensor:
        """u, and u moved by δ in each entry, inwards: (B, n + 1, n)."""
        self.moved = torch.where(self.u > 0, -_DELTA, _DELTA)
        return torch.cat([self.u[:, None], self.u[:, None] + torch.diag_embed(self.moved)], 1)

    def _merit(self, scores: Verdict) -> Tensor:
        """The augmented Lagrangian, (B, K)."""
        if not scores.margins:
            return scores.energy
        prices, rho = self.prices[:, None], self.rho[:, None].clamp(min=1e-12)
        over = (prices + 2 * rho * (_limits(scores) + self.room[:, None])).clamp(min=0)
        return scores.energy + ((over.square() - prices.square()) / (4 * rho)).sum((2, 3))

    def _look_around(self, actions: Tensor, scores: Verdict) -> None:
        """Slopes of the Lagrangian and guardrails at u and around it, for `_aim`."""
        total, g = scores.energy, None
        if scores.margins:
            g = _limits(scores)
            total = total + (self.prices[:, None] * g).sum((2, 3))
            g = g.detach()
        slopes = slope_of(total, actions).flatten(2).detach()
        self.seen = slopes * self.bounds.half.repeat(self.horizon), g

    def _aim(self) -> None:
        """The step to the solution of the quadratic program, and the prices that it puts on guardrails."""
        if self.seen is None:  # what the budget cut off tells no curvature
            self.direction = torch.zeros_like(self.u)
            return
        (slopes, g), self.seen = self.seen, None
        slope = slopes[:, 0]
        hessian = (slopes[:, 1:] - slopes[:, :1]) / self.moved[:, :, None]
        lost = ~hessian.isfinite().all(2).all(1) | ~slope.isfinite().all(1)
        hessian, slope = (torch.where(lost.view(-1, *[1] * (x.dim() - 1)), 0.0, x) for x in (hessian, slope))
        values, vectors = torch.linalg.eigh(even((hessian + hessian.mT).double() / 2))
        size = values.abs()
        size = size.maximum(_SHRINK * size.amax(1, keepdim=True)).clamp(min=1e-12)
        if slope.shape[1] % 2:
            size = size * (1 - vectors[:, -1].square()).round()  # the direction that `even` added has no curvature
        curved = ((vectors * size[:, None]) @ vectors.mT)[:, : slope.shape[1], : slope.shape[1]]
        slope = slope.double()
        rows, most = slope.new_zeros(len(slope), 0, slope.shape[1]), slope.new_zeros(len(slope), 0)
        if g is not None:
            rows = ((g[:, 1:] - g[:, :1]) / self.moved[:, :, None, None]).flatten(2).mT.double()
            most = -(g[:, 0] + self.room).flatten(1).double()
            slope = slope - (rows * self.prices.flatten(1).double()[..., None]).sum(1)
        step, prices = solve_quadratic(curved, slope, rows, most, -1 - self.u, 1 - self.u)
        self.direction = torch.where(lost[:, None], 0.0, step.to(self.u))
        if g is not None:
            self.prices = prices.view_as(self.prices).to(self.prices)
            steep = rows.sum(1).square().sum(1)
            rho = (size.square().sum(1).sqrt() * self.horizon**2 / steep).nan_to_num(posinf=0.0)
            self.rho = torch.where(self.rho > 0, self.rho, rho[:, None, None].to(self.rho))

    def _walk(self, actions: Tensor, scores: Verdict) -> None:
        """To the best point of the line; more room where it breaks a guardrail."""
        merit = self._merit(scores).nan_to_num(nan=torch.inf)
        first = merit.argmin(1)
        before, self.u = self.u, self.bounds.unit(_picked(actions, first)).flatten(1)
        if scores.margins:
            g = _limits(scores)[torch.arange(len(merit), device=merit.device), first]
            broken = g.nan_to_num(posinf=0.0).clamp(min=0).amax((1, 2), keepdim=True)
            self.room = torch.where(broken > 0, self.room + 1.5 * broken, self.room / 2)
        still = (self.u - before).abs().amax(1) <= self.config.tolerance
        self.over = self.over | (still & (self.best_energy < torch.inf))

    def _remember(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        """The best feasible candidate so far."""
        rows, first = torch.arange(len(order), device=order.device), order[:, 0]
        energy = torch.where(scores.feasible, scores.energy, torch.inf)[rows, first].detach()
        better = energy < self.best_energy
        point = self.bounds.unit(actions[rows, first]).flatten(1)
        known = (self.best_energy < torch.inf) | better
        self.best_energy = torch.where(better, energy, self.best_energy)
        self.best = torch.where(better[:, None], point, torch.where(known[:, None], self.best, self.u))


def _picked(actions: Tensor, index: Tensor) -> Tensor:
    """(B, K, H, A), (B,) -> (B, H, A)."""
    return actions.detach()[torch.arange(len(index), device=index.device), index]


def _limits(scores: Verdict) -> Tensor:
    """Every guardrail at every step, (B, K, G, H)."""
    return torch.stack(list(scores.margins.values()), 2).to(scores.energy)
