"""Model-predictive path integral control: every candidate counts, by the exponential of its energy.

Shapes: B problems, K candidates, H horizon, A action size, C choices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, Spending, decide, examine, search_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import Gaussian, fitted
from steersman.actor.sampling.drawing import Warm, amounts_from, choices_from, require_sizes, warm_at
from steersman.actor.sampling.noise import coloured_basis, in_chunks, steps_of
from steersman.core import ConfigError, Plan, Planner, Problem, Streams, Task, register


class MPPI(Configured["MPPI.Config"]):
    """Path integral control (Williams et al. 2017), for amounts and for choices.

        a^k = clamp(μ + L ε^k),  S^k = J^k + γ λ Σ_t (μ_t - m)ᵀ Σ⁻¹ (a_t^k - μ_t)
        w = softmax(-S / (λ s)),  μ <- Σ_k w^k a^k

    ε is normal noise (white, or with spectrum 1 / f^β), Σ = L Lᵀ its covariance, m the middle of the range. λ is in
    units of s: 1, or the deviation, or the range of the energies of candidates that count. Guardrails come first: a
    candidate that breaks one weighs nothing while another breaks none, and where all do, violations take the place of
    energies. Candidate 0 is μ itself.

    The plan is the last weighted mean, if it keeps every guardrail: a mean of feasible candidates need not, so it is
    imagined like a candidate. Otherwise it is the best candidate. `answer` "best" takes the better of the two.

    With `refit` the noise follows the candidates too, σ² <- Σ_k w^k (a^k - μ)², as in TD-MPC (Hansen et al. 2022).
    Choices are drawn from probabilities per step, which move to the weighted frequencies; the plan is their mode.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mppi"):
        """samples K, iterations; horizon when the task does not say.

        temperature  λ; normalise: what it is a share of ("none" is the original)
        spread       deviation of the noise over half the action range
        covariance   (A, A) rows of Σ in units of half ranges, instead of spread² on the diagonal
        beta         colour of the noise; 0 is white, 2 pushes last
        control      γ, the weight of the control cost that the derivation adds; 1 is the original, 0 plans for the
                     task's energies alone
        refit        share by which deviations follow the candidates, down to `floor` over half the range
        elites       candidates that count, the best ones; 0 means all
        tolerance    above 0: stop where three iterations have improved the best energy by less than this share
        """

        samples: int = 300
        iterations: int = 6
        horizon: int = 15
        temperature: float = 0.1
        normalise: Literal["none", "deviation", "range"] = "deviation"
        spread: float = 0.5
        covariance: tuple[tuple[float, ...], ...] = ()
        beta: float = 0.0
        control: float = 0.0
        refit: float = 1.0
        floor: float = 0.02
        elites: int = 0
        answer: Literal["mean", "best"] = "mean"
        execute: int = 1
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.samples, self.iterations, max(self.elites, 1), self.horizon, execute=self.execute)
            require_ranges(self, {
                "temperature > 0": self.temperature > 0, "spread > 0": self.spread > 0, "beta >= 0": self.beta >= 0,
                "0 <= refit <= 1": 0 <= self.refit <= 1, "0 <= floor <= 1": 0 <= self.floor <= 1,
                "control >= 0": self.control >= 0, "tolerance >= 0": self.tolerance >= 0,
            })
            if self.covariance:
                _factor(self.covariance)

        def build(self) -> MPPI:
            return MPPI(self)

    def rounds(self, task: Task) -> int:
        return self.config.iterations

    def resumed(self, problem: Problem, actions: Tensor) -> Warm:
        return warm_at(problem, actions)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        kind = _Choices if problem.action.kind == "discrete" else _Amounts
        proposal = kind(self.config, problem, horizon)
        spending = Spending(problem, horizon, later=1)
        found = search_in_rounds(problem, proposal, self.config.iterations, spending, self.config.tolerance)
        spending.spend(1)
        with torch.no_grad():
            last, _, _ = examine(problem, proposal.answer(found.warm)[:, None])
            answer = found.best.followed(last.best, last.best.feasible) if self.config.answer == "mean" else None
            found = found.followed(replace(last, warm=found.warm), answer)
        return decide(problem, found, spending)


class _Weighing(Proposal):
    """What amounts and choices share: what a candidate weighs."""

    def __init__(self, config: MPPI.Config, problem: Problem, horizon: int) -> None:
        self.config, self.horizon, self.suggested = config, horizon, problem.proposal
        self.streams = Streams(problem.seeds, problem.decision)

    def candidates(self, number: int) -> int:
        return self.config.samples

    def weights(self, energy: Tensor, scores: Verdict, order: Tensor) -> Tensor:
        """(B, K), each row adding up to 1; 0 for candidates that break a guardrail while another breaks none."""
        some = scores.feasible.any(1, keepdim=True)
        value = torch.where(some, energy, scores.violation).double()
        counts = (scores.feasible | ~some) & value.isfinite()
        counts |= ~counts.any(1, keepdim=True)  # nothing to go by: all alike
        if self.config.elites:
            best = torch.zeros_like(counts).scatter(1, order[:, : self.config.elites], True)
            counts &= best | ~(counts & best).any(1, keepdim=True)
        value = torch.where(counts & value.isfinite(), value, 0.0)
        least = torch.where(counts, value, torch.inf).amin(1, keepdim=True)
        excess = torch.where(counts, value - least, 0.0)
        unit = self._unit(excess, counts) * self.config.temperature
        return torch.where(counts, -excess / unit, -torch.inf).softmax(1).float()

    def _unit(self, excess: Tensor, counts: Tensor) -> Tensor:
        """(B, 1): what the temperature is a share of."""
        if self.config.normalise == "none":
            return torch.ones_like(excess[:, :1])
        if self.config.normalise == "range":
            return excess.amax(1, keepdim=True).clamp(min=1e-30)
        number = counts.sum(1, keepdim=True)
        mean = excess.sum(1, keepdim=True) / number
        square = torch.where(counts, excess - mean, 0.0).square().sum(1, keepdim=True) / number
        return square.sqrt().clamp(min=1e-30)


class _Amounts(_Weighing):
    def __init__(self, config: MPPI.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.bounds = Bounds(problem.action, problem.belief.state)
        device, size = self.bounds.low.device, problem.action.size
        self.chunk, single = steps_of(problem.action)
        start = amounts_from(problem, horizon, self.bounds, config.execute)
        self.factor = _factor(config.covariance, size).to(device) if config.covariance else None
        self.colours = coloured_basis(horizon * self.chunk, config.beta).to(device) if config.beta else None
        self.size = single if config.beta else size
        self.distribution = Gaussian(start, self.bounds, 1.0 if config.covariance else config.spread)
        if self.suggested is not None:
            self.suggested = self.bounds.clamp(fitted(self.suggested, horizon))

    def sample(self, number: int, count: int) -> Tensor:
        if self.colours is None:
            noise = self.streams.normal(count, self.horizon, self.size)
        else:
            noise = (self.streams.normal(count, self.size, len(self.colours)) @ self.colours).mT.contiguous()
            noise = in_chunks(noise, self.chunk)
        if self.factor is not None:
            noise = (noise[..., None, :] * self.factor).sum(-1)
        noise[:, 0] = 0
        actions = self.distribution.actions(noise)
        if number == 0 and count > 1 and self.suggested is not None:
            actions[:, 1] = self.suggested
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        config, bounds, distribution = self.config, self.bounds, self.distribution
        energy = scores.energy
        if not (config.control or config.refit):
            weight = self.weights(energy, scores, order)[..., None, None]
            distribution.mean = bounds.limit((weight * actions).sum(1))
            return
        tried, mean = bounds.unit(actions), bounds.unit(distribution.mean)
        if config.control:
            energy = energy + config.control * self._control(tried - mean[:, None], mean).to(energy)
        weight = self.weights(energy, scores, order)[..., None, None]
        moved = (weight * tried).sum(1)
        deviation = distribution.deviation / bounds.half
        if config.refit:
            followed = (weight * (tried - moved[:, None]).square()).sum(1).sqrt()
            if self.factor is not None:  # deviations scale the covariance, they do not replace it
                followed = followed / self.factor.square().sum(1).sqrt()
            deviation = torch.lerp(deviation, followed, config.refit)
        distribution.shift(moved, deviation, 0.0, config.floor if config.refit else 0.0)

    def _control(self, pushed: Tensor, mean: Tensor) -> Tensor:
        """λ Σ_t μ_tᵀ Σ⁻¹ (a_t - μ_t) of each candidate, (B, K); in units of half ranges, as Σ is."""
        size = self.size
        factor = self.config.spread * torch.eye(size) if self.factor is None else self.factor
        inverse = torch.cholesky_inverse(factor.double().cpu()).to(mean)
        pull = (mean[..., None, :] * inverse).sum(-1)
        return self.config.temperature * (pull[:, None] * pushed).sum((2, 3))

    def warm(self) -> Warm:
        return Warm(self.distribution.mean)

    def answer(self, warm: Any) -> Tensor:
        return self.bounds.clamp(warm.mean)


class _Choices(_Weighing):
    def __init__(self, config: MPPI.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.distribution = choices_from(problem, horizon, config.execute)

    def sample(self, number: int, count: int) -> Tensor:
        actions = self.distribution.actions(self.streams.uniform(count, self.horizon))
        actions[:, 0] = self.distribution.mode()
        if number == 0 and count > 1 and self.suggested is not None:
            actions[:, 1] = fitted(self.suggested, self.horizon)
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        weight = self.weights(scores.energy, scores, order)
        choices = self.distribution.probabilities.shape[-1]
        chosen = torch.nn.functional.one_hot(actions.squeeze(-1), choices)
        self.distribution.shift((weight[..., None, None] * chosen).sum(1), 0.0, self.config.floor)

    def warm(self) -> Warm:
        return Warm(self.distribution.probabilities)

    def answer(self, warm: Any) -> Tensor:
        mode: Tensor = warm.mean.argmax(-1, keepdim=True)
        return mode


def _factor(covariance: tuple[tuple[float, ...], ...], size: int | None = None) -> Tensor:
    """Lower triangle L (A, A) with L Lᵀ = covariance.

    Raises:
        ConfigError: not square, not symmetric, not positive definite, or not for `size` entries.
    """
    rows = len(covariance)
    if any(len(row) != rows for row in covariance) or (size or rows) != rows:
        raise ConfigError(f"a covariance of {size or rows} rows and columns",
                          f"{[len(row) for row in covariance]}", "give one row and column for each entry of an action")
    matrix = torch.tensor(covariance, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed) or not torch.allclose(matrix, matrix.mT):
        raise ConfigError("a symmetric, positive definite covariance", f"{[list(row) for row in covariance]}",
                          "correct the planner's configuration")
    return factor.float()
