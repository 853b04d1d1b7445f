"""The loop that sampling planners share: propose, score, rank, refit, within the budget; then decide.

A planner is its proposal: how candidates are drawn and what is learned from their ranking.
Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.bounds import fallback_action
from steersman.actor.ranking import feasibility_first
from steersman.actor.scoring import Scores, score
from steersman.core import Imagined, Plan, PlanningError, Problem


class Proposal(ABC):
    """Where candidates come from; learns from each round."""

    @abstractmethod
    def candidates(self, number: int) -> int:
        """How many candidates round `number` wants."""

    @abstractmethod
    def sample(self, number: int, count: int) -> Tensor:
        """`count` candidates of round `number` within bounds, (B, count, H, A)."""

    @abstractmethod
    def refit(self, actions: Tensor, order: Tensor) -> None:
        """Learn from a round: actions (B, K, H, A), order (B, K) best first."""

    @abstractmethod
    def warm(self) -> Any:
        """What the next decision should start from."""


@dataclass(frozen=True)
class Best:
    """The best candidate of each problem so far (K = 1), and what was kept and refused on the way.

    actions (B, H, A); value (B,) energy if feasible, else violation; parts name -> (B, H); kept (B,);
    refused name -> (B,)
    """

    actions: Tensor
    feasible: Tensor
    value: Tensor
    parts: Mapping[str, Tensor]
    imagined: Imagined
    kept: Tensor
    refused: Mapping[str, Tensor]

    @classmethod
    def of(cls, actions: Tensor, scores: Scores, order: Tensor) -> Best:
        rows, first = torch.arange(len(order), device=order.device), order[:, 0]
        feasible = scores.feasible[rows, first]
        return cls(
            actions[rows, first], feasible,
            torch.where(feasible, scores.energy[rows, first], scores.violation[rows, first]),
            {name: part[rows, first] for name, part in scores.parts.items()}, scores.imagined.select(first),
            scores.feasible.sum(1), {name: veto.sum(1) for name, veto in scores.refused.items()},
        )

    def improved(self, later: Best) -> Best:
        """The better of two rounds, problem by problem; the earlier one in a tie."""
        better = (later.feasible & ~self.feasible) | ((later.feasible == self.feasible) & (later.value < self.value))
        return Best(
            _where(better, later.actions, self.actions), later.feasible | self.feasible,
            _where(better, later.value, self.value),
            {name: _where(better, part, self.parts[name]) for name, part in later.parts.items()},
            _where(better, later.imagined, self.imagined),
            self.kept + later.kept, {name: self.refused[name] + veto for name, veto in later.refused.items()},
        )


def _where(mask: Tensor, yes: Any, no: Any) -> Any:
    if isinstance(yes, Tensor):
        return torch.where(mask.view(-1, *[1] * (yes.dim() - 1)), yes, no)
    if isinstance(yes, tuple):
        return tuple(_where(mask, a, b) for a, b in zip(yes, no, strict=True))
    if isinstance(yes, Imagined):
        return replace(yes, **{f.name: _where(mask, getattr(yes, f.name), getattr(no, f.name)) for f in fields(yes)})
    return yes


class Spending:
    """Predictor calls and seconds of one decision against its budget. A round that would not fit is not started."""

    def __init__(self, problem: Problem, horizon: int) -> None:
        self.budget, self.horizon, self.started = problem.task.budget, horizon, time.perf_counter()
        self.calls, self._slowest, self._round = 0, 0.0, self.started
        self._reserve = horizon if problem.task.guardrails else 0  # to imagine the fallback

    def affords(self, wanted: int) -> int:
        """Candidates of the next round, at most `wanted`; 0 ends the search. The first round always gets one."""
        now = time.perf_counter()
        self._slowest, self._round = max(self._slowest, now - self._round if self.calls else 0.0), now
        limit = self.budget.seconds
        if self.calls and limit is not None and now - self.started + self._slowest > limit:
            return 0
        if self.budget.calls is None:
            return wanted
        count = min(wanted, (self.budget.calls - self.calls - self._reserve) // self.horizon)
        if not self.calls and count < 1:
            raise PlanningError(
                f"a budget of at least {self.horizon + self._reserve} predictor calls for horizon {self.horizon}",
                f"{self.budget.calls}", "raise the budget or shorten the horizon",
            )
        return max(count, 0)

    def spend(self, candidates: int) -> None:
        self.calls += candidates * self.horizon

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


@torch.no_grad()
def plan_in_rounds(problem: Problem, proposal: Proposal, rounds: int, horizon: int) -> Plan:
    """Run at most `rounds` rounds of `proposal` and decide."""
    spending, best, scored = Spending(problem, horizon), None, 0
    for number in range(rounds):
        count = spending.affords(proposal.candidates(number))
        if count < 1:
            break
        actions = proposal.sample(number, count)
        spending.spend(actions.shape[1])
        scored += actions.shape[1]
        scores = score(problem, actions)
        order = feasibility_first(scores.energy, scores.violation, scores.feasible)
        this = Best.of(actions, scores, order)
        best = this if best is None else best.improved(this)
        proposal.refit(actions, order)
    if best is None:
        raise PlanningError("at least one round", f"{rounds}", "set the planner's iterations to 1 or more")
    return decide(problem, best, scored, spending, proposal.warm())


def decide(problem: Problem, best: Best, scored: int, spending: Spending, warm: Any = None) -> Plan:
    """The best candidates as a plan; where none is feasible, the declared fallback, said so."""
    calls = torch.full((len(problem),), spending.calls, dtype=torch.int64)
    actions, imagined, energy = best.actions, best.imagined, dict(best.parts)
    if not bool(best.feasible.all()):
        spare = fallback_action(problem).to(actions.dtype).expand_as(actions)
        scores = score(problem, spare[:, None])
        actions = _where(best.feasible, actions, spare)
        imagined = _where(best.feasible, imagined, scores.imagined)
        energy = {name: _where(best.feasible, part, scores.parts[name][:, 0]) for name, part in energy.items()}
        calls = calls + torch.where(best.feasible.cpu(), 0, actions.shape[1])
    return Plan(
        actions, imagined, energy, best.feasible, best.kept, best.refused, _reasons(best, scored), calls,
        spending.seconds, warm,
    )


def _reasons(best: Best, scored: int) -> tuple[str, ...]:
    refused = {name: veto.tolist() for name, veto in best.refused.items()}
    totals = {name: part.sum(1).tolist() for name, part in best.parts.items()}
    sentences = []
    for b, (feasible, kept) in enumerate(zip(best.feasible.tolist(), best.kept.tolist(), strict=True)):
        vetoes = ", ".join(f"{name} refused {veto[b]}" for name, veto in refused.items() if veto[b])
        if feasible:
            terms = ", ".join(f"{name} {total[b]:.4g}" for name, total in totals.items())
            sentence = f"lowest energy of {kept} feasible candidates among {scored} ({terms})"
            sentences.append(f"{sentence}; {vetoes}" if vetoes else sentence)
        elif vetoes:
            sentences.append(f"INFEASIBLE: none of {scored} candidates met every guardrail ({vetoes}); fallback action")
        else:
            sentences.append(f"INFEASIBLE: none of {scored} candidates had a finite energy; fallback action")
    return tuple(sentences)
