"""The loop that sampling planners share: propose, score, rank, refit, within the budget; then decide.

A planner is its proposal: how candidates are drawn and what is learned from their ranking.
Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.ground.bounds import fallback_action
from steersman.actor.ground.differentiation import differentiable
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.verdict import Verdict, scenarios_of, score
from steersman.core import Imagined, Plan, PlanningError, Problem, TensorRecord
from steersman.core.clock import now
from steersman.core.records import where


class Proposal(ABC):
    """Where candidates come from; learns from each round."""

    @abstractmethod
    def candidates(self, number: int) -> int:
        """How many candidates round `number` wants."""

    @abstractmethod
    def sample(self, number: int, count: int) -> Tensor:
        """`count` candidates of round `number` within bounds, (B, count, H, A)."""

    @abstractmethod
    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        """Learn from a round: actions (B, K, H, A), what they are worth, order (B, K) best first."""

    @abstractmethod
    def warm(self) -> Any:
        """What the next decision should start from: a tensor or a dataclass of tensors, each with a leading B."""

    def settled(self) -> Tensor | None:
        """Problems (B,) whose search is over; None: none is. What `refit` does to them afterwards counts no more."""
        return None

    def passes(self, number: int) -> int:
        """Passes through the model that a candidate of round `number` takes: 1 forward, and those backward.

        Above 1, energies and margins in `refit` can be differentiated in the actions. Every pass over H steps counts
        as H predictor calls.
        """
        return 1


@dataclass(frozen=True)
class Best(TensorRecord):
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
    def of(cls, actions: Tensor, scores: Verdict, order: Tensor) -> Best:
        rows, first = torch.arange(len(order), device=order.device), order[:, 0]
        feasible = scores.feasible[rows, first]
        return cls(
            actions[rows, first], feasible,
            torch.where(feasible, scores.energy[rows, first], scores.violation[rows, first]),
            {name: part[rows, first] for name, part in scores.parts.items()}, scores.future(first),
            scores.feasible.sum(1), {name: veto.sum(1) for name, veto in scores.refused.items()},
        )

    def improved(self, later: Best) -> Best:
        """The better of two rounds, problem by problem; the earlier one in a tie."""
        better = (later.feasible & ~self.feasible) | ((later.feasible == self.feasible) & (later.value < self.value))
        return self.followed(later, better)

    def followed(self, later: Best, rows: Tensor) -> Best:
        """The later one for the problems of a mask (B,); what was kept and refused adds up."""
        best = later if bool(rows.all()) else later.where(rows, self)
        refused = {name: self.refused[name] + veto for name, veto in later.refused.items()}
        return replace(best, kept=self.kept + later.kept, refused=refused)


class Spending:
    """Predictor calls, rounds and seconds of one decision. A round that does not fit the budget is not started."""

    def __init__(self, problem: Problem, horizon: int, later: int = 0) -> None:
        """later: candidates that must still be affordable when the search is over, the fallback apart."""
        self.budget, self.started = problem.task.budget, now()
        self.each = horizon * scenarios_of(problem)  # predictor calls of a candidate
        self.calls, self.rounds, self._slowest, self._round = 0, 0, 0.0, self.started
        self._reserve = self.each * (later + bool(problem.task.guardrails))  # to imagine the fallback

    def affords(self, wanted: int, passes: int = 1) -> int:
        """Candidates of the next round, at most `wanted`, each `passes` times the horizon in predictor calls; 0 ends
        the search. The first round always gets one."""
        moment = now()
        self._slowest, self._round = max(self._slowest, moment - self._round if self.calls else 0.0), moment
        limit = self.budget.seconds
        if self.calls and limit is not None and moment - self.started + self._slowest > limit:
            return 0
        if self.budget.calls is None:
            return wanted
        each = passes * self.each
        count = min(wanted, (self.budget.calls - self.calls - self._reserve) // each)
        if not self.calls and count < 1:
            raise PlanningError(
                f"a budget of at least {each + self._reserve} predictor calls, {self.each} for a candidate",
                f"{self.budget.calls}", "raise the budget or shorten the horizon",
            )
        return max(count, 0)

    def spend(self, candidates: int, passes: int = 1) -> None:
        self.calls += candidates * passes * self.each

    @property
    def seconds(self) -> float:
        return now() - self.started


@dataclass(frozen=True)
class Searched(TensorRecord):
    """Where a search stands: the best candidates, how many were scored and what was spent (B,), the warm start."""

    best: Best
    scored: Tensor
    calls: Tensor
    warm: Any = None

    def followed(self, later: Searched, best: Best | None = None) -> Searched:
        """After `later`; `best` is the better of the two unless it is given."""
        best = self.best.improved(later.best) if best is None else best
        return Searched(best, self.scored + later.scored, self.calls + later.calls, later.warm)


def plan_in_rounds(problem: Problem, proposal: Proposal, rounds: int, horizon: int, tolerance: float = 0.0) -> Plan:
    """Run at most `rounds` rounds of `proposal` and decide. tolerance: see `search_in_rounds`."""
    spending = Spending(problem, horizon)
    return decide(problem, search_in_rounds(problem, proposal, rounds, spending, tolerance), spending)


def search_in_rounds(
    problem: Problem, proposal: Proposal, rounds: int, spending: Spending, tolerance: float = 0.0
) -> Searched:
    """Run at most `rounds` rounds of `proposal`, within what is left to spend.

    tolerance  above 0, a problem's search is over once its best candidate is feasible and three rounds have improved
               it by less than this share of its energy. The others go on, so a plan does not depend on its neighbours.
    """
    found, over = None, None
    values: tuple[Tensor, ...] = ()
    for number in range(rounds):
        passes = proposal.passes(number)
        count = spending.affords(proposal.candidates(number), passes)
        if count < 1:
            break
        with differentiable() if passes > 1 else torch.no_grad():
            actions = proposal.sample(number, count)
            spending.spend(actions.shape[1], passes)
            spending.rounds += 1
            later, scores, order = examine(problem, actions, passes)
            proposal.refit(actions, scores, order)
        later = replace(later, warm=proposal.warm())
        joined = later if found is None else found.followed(later)
        found = joined if found is None or over is None else found.where(over, joined)
        if tolerance:
            values = (*values, found.best.value)[-4:]
            if len(values) == 4:
                still = found.best.feasible & (values[0] - values[-1] <= tolerance * values[-1].abs())
                over = still if over is None else over | still
        ended = proposal.settled()
        if ended is not None:
            over = ended if over is None else over | ended
        if over is not None and bool(over.all()):
            break
    if found is None:
        raise PlanningError("at least one round", f"{rounds}", "set the planner's iterations to 1 or more")
    return found


def examine(problem: Problem, actions: Tensor, passes: int = 1) -> tuple[Searched, Verdict, Tensor]:
    """Imagine and rank candidates (B, K, H, A): the best of them, what all are worth, and their order (B, K)."""
    scores = score(problem, actions)
    plain = scores.map(Tensor.detach)
    order = feasibility_first(plain.energy, plain.violation, plain.feasible)
    scored = torch.full((len(problem),), actions.shape[1], dtype=torch.int64)
    best = Best.of(actions.detach(), plain, order)
    calls = scored * (passes * actions.shape[2] * scenarios_of(problem))
    return Searched(best, scored, calls), scores, order


@torch.no_grad()
def decide(
    problem: Problem, found: Searched, spending: Spending, judge: Callable[[Problem, Tensor], Verdict] = score,
) -> Plan:
    """The best candidates as a plan; where none is feasible, the declared fallback, said so. judge: what candidates
    (B, K, H, A) are worth, by the same terms as those that were found."""
    best, calls = found.best, found.calls
    actions, imagined, energy = best.actions, best.imagined, dict(best.parts)
    if not bool(best.feasible.all()):
        spare = fallback_action(problem).to(actions.dtype).expand_as(actions)
        scores = judge(problem, spare[:, None])
        there = scores.future(torch.zeros_like(best.kept))
        actions, imagined = where(best.feasible, (actions, imagined), (spare, there))
        energy = {name: where(best.feasible, part, scores.parts[name][:, 0]) for name, part in energy.items()}
        calls = calls + torch.where(best.feasible.cpu(), 0, actions.shape[1] * scenarios_of(problem))
    return Plan(
        actions, imagined, energy, best.feasible, best.kept, best.refused, _reasons(best, found.scored), calls,
        spending.seconds, found.warm, max(1, spending.rounds),
    )


def _reasons(best: Best, counts: Tensor) -> tuple[str, ...]:
    refused = {name: veto.tolist() for name, veto in best.refused.items()}
    totals = {name: part.sum(1).tolist() for name, part in best.parts.items()}
    sentences = []
    for b, (feasible, kept, scored) in enumerate(
        zip(best.feasible.tolist(), best.kept.tolist(), counts.tolist(), strict=True)
    ):
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
