"""Improved cross-entropy method: coloured noise, fewer candidates each round, elites kept within and across decisions.

Shapes: B problems, K candidates, E elites, H horizon, A action size.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.actor.sampling.distributions import Gaussian, fitted, shifted
from steersman.actor.sampling.drawing import Warm, amounts_from, best_of, choices_from, require_sizes, warm_at
from steersman.actor.sampling.noise import coloured_basis, in_chunks, steps_of
from steersman.core import Plan, Planner, Problem, Streams, Task, register


@dataclass(frozen=True)
class WarmElites(Warm):
    """The last mean, and the best plans (B, n, H, A)."""

    elites: Tensor


class ICEM(Configured["ICEM.Config"]):
    """iCEM (Pinneri et al. 2020), for amounts and for choices.

        a^k = clamp(μ + σ ε^k), ε with power spectrum 1 / f^β;  (μ, σ) <- (1 - α) (mean, deviation of elites) + α (μ, σ)

    Choices: a^k = F⁻¹(Φ(ε^k)) with F the distribution function of each step's probabilities, which are refitted to the
    elites' frequencies: the noise keeps its colour, so a candidate pushes one way for a while instead of dithering.
    Where an action is a chunk of amounts, the colour is that of the world's own steps, within chunks and beyond.

    Round i draws max(K γ^-i, 2 E) candidates; a share ξ of the elites competes again in the next round, and, moved by
    one step, in the next decision. Candidate 0 is always μ. Defaults are the paper's: β = 2, γ = 1.3 (methods card;
    the paper uses 1.25), ξ = .3, α = .1, σ = .5 of half the range. The plan is the best candidate of all rounds.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="icem"):
        """samples K, iterations, elites E; horizon when the task does not say; beta, decay γ, keep ξ, momentum α.

        tolerance  above 0: stop where three rounds have improved the best energy by less than this share
        """

        samples: int = 128
        iterations: int = 4
        elites: int = 10
        horizon: int = 15
        beta: float = 2.0
        decay: float = 1.3
        keep: float = 0.3
        spread: float = 0.5
        momentum: float = 0.1
        floor: float = 0.0
        tolerance: float = 0.0

        def __post_init__(self) -> None:
            require_sizes(self.samples, self.iterations, self.elites, self.horizon)
            require_ranges(self, {
                "spread > 0": self.spread > 0, "0 <= momentum < 1": 0 <= self.momentum < 1,
                "0 <= floor <= 1": 0 <= self.floor <= 1, "beta >= 0": self.beta >= 0, "decay >= 1": self.decay >= 1,
                "0 <= keep <= 1": 0 <= self.keep <= 1, "tolerance >= 0": self.tolerance >= 0,
            })

        def build(self) -> ICEM:
            return ICEM(self)

    def rounds(self, task: Task) -> int:
        return self.config.iterations

    def resumed(self, problem: Problem, actions: Tensor) -> Warm:
        return warm_at(problem, actions)

    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        kind = _Choices if problem.action.kind == "discrete" else _Amounts
        proposal = kind(self.config, problem, horizon)
        return plan_in_rounds(problem, proposal, self.config.iterations, horizon, self.config.tolerance)


class _Improved(Proposal):
    """What amounts and choices share: fewer candidates each round, coloured noise, elites that compete again."""

    def __init__(self, config: ICEM.Config, problem: Problem, horizon: int) -> None:
        self.config, self.streams = config, Streams(problem.seeds, problem.decision)
        device = problem.belief.state.device
        self.suggested, self.horizon = problem.proposal, horizon
        self.chunk, self.size = steps_of(problem.action)
        self.colours = coloured_basis(horizon * self.chunk, config.beta).to(device)
        self.goes_on = problem.decision.to(device) > 0
        self.elites: Tensor | None = None
        if isinstance(problem.warm, WarmElites) and len(problem.warm.elites) == len(problem):
            self.elites = fitted(shifted(problem.warm.elites, problem.since(1)), horizon).to(device)

    @abstractmethod
    def drawn(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, K, H, A) -> actions; candidate 0 is the most likely plan."""

    @abstractmethod
    def suit(self, elites: Tensor) -> None:
        """Move the distribution to elites (B, E, H, A)."""

    @abstractmethod
    def centre(self) -> Tensor:
        """What the next decision's distribution starts from."""

    def candidates(self, number: int) -> int:
        wanted = int(self.config.samples * self.config.decay**-number)
        return max(wanted, min(2 * self.config.elites, self.config.samples))

    def sample(self, number: int, count: int) -> Tensor:
        white = self.streams.normal(count, self.size, len(self.colours))
        actions = self.drawn(in_chunks((white @ self.colours).mT.contiguous(), self.chunk))
        kept = 1
        if self.elites is not None:
            elites = self.elites[:, : max(0, count - 1)]
            kept += elites.shape[1]
            if number == 0:
                elites = torch.where(self.goes_on.view(-1, 1, 1, 1), elites, actions[:, 1:kept])
            actions[:, 1:kept] = elites
        if number == 0 and self.suggested is not None and kept < count:
            actions[:, kept] = fitted(self.suggested, self.horizon)
        return actions

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        self.suit(best_of(actions, order, self.config.elites))
        count = math.ceil(self.config.keep * self.config.elites)
        self.elites = best_of(actions, order, count) if count else None

    def warm(self) -> Warm:
        return Warm(self.centre()) if self.elites is None else WarmElites(self.centre(), self.elites)


class _Amounts(_Improved):
    def __init__(self, config: ICEM.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.bounds = Bounds(problem.action, problem.belief.state)
        self.distribution = Gaussian(amounts_from(problem, horizon, self.bounds), self.bounds, config.spread)
        if self.suggested is not None:
            self.suggested = self.bounds.clamp(self.suggested)

    def drawn(self, noise: Tensor) -> Tensor:
        noise[:, 0] = 0
        return self.distribution.actions(noise)

    def suit(self, elites: Tensor) -> None:
        self.distribution.refit(elites, self.config.momentum, self.config.floor)

    def centre(self) -> Tensor:
        return self.distribution.mean


class _Choices(_Improved):
    def __init__(self, config: ICEM.Config, problem: Problem, horizon: int) -> None:
        super().__init__(config, problem, horizon)
        self.distribution = choices_from(problem, horizon)

    def drawn(self, noise: Tensor) -> Tensor:
        actions = self.distribution.actions(torch.special.ndtr(noise.squeeze(-1)))
        actions[:, 0] = self.distribution.mode()
        return actions

    def suit(self, elites: Tensor) -> None:
        self.distribution.refit(elites, self.config.momentum, max(self.config.floor, 0.1))

    def centre(self) -> Tensor:
        return self.distribution.probabilities
