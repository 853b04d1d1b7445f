"""A planner that is asked as much as a decision is worth: habit acts, a gate says how far a planner thinks beyond it.

Knows policy and planner by core's abstract classes. Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from steersman.actor.deliberation.gate import Gate, require_share
from steersman.actor.deliberation.signals import Habit, read_signals
from steersman.actor.ground.joining import joined_plans
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.rounds import Best, Searched, Spending, decide, examine
from steersman.actor.ground.verdict import Verdict, imagine, scenarios_of, verdict
from steersman.actor.policy.seeded import followed
from steersman.actor.sampling.distributions import fitted, shifted
from steersman.core import (
    CallableGoal,
    ConfigError,
    Imagined,
    Level,
    Plan,
    Planner,
    PlanningError,
    Policy,
    Problem,
    Streams,
    Task,
    TensorRecord,
)
from steersman.core.clock import now

GRID = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
SHARE = "share"
"""Under this name a plan says what share of the full budget a problem was given (`Plan.signals`)."""
_DITHER = 0x5EED0F0DD  # sets these draws apart from those of candidates


@dataclass(frozen=True)
class Begun(TensorRecord):
    """The last plan (B, H, A), to go on with."""

    actions: Tensor


class Deliberate(Planner):
    """Mode 1 and Mode 2 as the two ends of one budget.

    1. **Habit.** The policy is followed through the imagination for H steps, and what is left of the last plan is
       imagined beside it; the better of the two, by the task's own terms and guardrails, is habit's way.
    2. **The gate** reads its signals of that way and gives each problem a share of the full budget of predictor calls.
       A way that a guardrail refuses is given at least the gate's `vetoed`.
    3. **The planner** plans for those whose share has room for a candidate, within that share, and begins with habit's
       way (`Problem.proposal`, `Planner.resumed`): it does no worse by its own judgement. The others act by habit; a
       refused way is replaced by the task's fallback, as with every planner.

    Every action has been through the one verdict, whatever the share. For limits that one imagined way does not keep
    (inertia), stand inside `Backup` or `Barrier`, which then filter every share alike: `Planner.around` does that.

    Shares are met from `grid`, each problem drawing one of the two next to its own from its own seed, so that the mean
    is the gate's while problems of one budget are planned for together. Both of habit's ways count, and all calls
    together stay within the share.

    planner, policy  see above
    gate      what says how much; `Gate(calls=N)` for a fixed budget
    share     wanted mean share within [0, 1]
    horizon   steps that the policy is followed; None: those that the task says, else the planner's own

    Sources: the policy prior of TD-MPC (Hansen, Wang & Su 2022); metareasoning by the value of computation (Russell &
    Wefald 1991).

    Raises:
        ConfigError: a share outside [0, 1], a grid that does not rise to 1.
        PlanningError: no horizon; a signal that the agent lacks; a goal that is code, for problems of unequal share.
    """

    def __init__(
        self, planner: Planner, policy: Policy, gate: Gate, share: float, *, horizon: int | None = None,
        grid: tuple[float, ...] = GRID,
    ) -> None:
        require_share(share, "a mean share of the planner's calls")
        if not grid or grid[-1] != 1 or not all(0 < a < b for a, b in pairwise(grid)):
            raise ConfigError("a grid of shares that rises to 1", f"{grid}", "1/16, 1/8, 1/4, 1/2, 1 is the usual one")
        self.planner, self.policy, self.gate, self.share, self.grid = planner, policy, gate, share, grid
        self.execute = planner.execute
        self.horizon = planner.horizon if horizon is None else horizon

    def commits(self, task: Task) -> int:
        return self.planner.commits(task)

    def rounds(self, task: Task) -> int:
        return self.planner.rounds(task)

    def level(self, task: Task) -> Level:
        return self.planner.level(task)

    def inside(self) -> tuple[Planner, ...]:
        return (self.planner,)

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        began, horizon = now(), self._horizon(problem)
        spending = Spending(problem, horizon)
        found, habit = self._habit(problem, horizon)
        least = int(found.calls.max())
        values = read_signals(tuple(self.gate.signals), problem, habit)
        shares = self.gate.shares(values, len(problem), self.share, least)
        vetoed = ~habit.scores.feasible[:, 0].cpu()
        shares = torch.where(vetoed, shares.clamp_min(self.gate.vetoed), shares)
        budgets = self._budgets(problem, shares, least)
        parts = list[tuple[Tensor, Plan]]()
        rows = (budgets == 0).nonzero()[:, 0]
        if len(rows):
            some = _rows_of(problem, rows)
            plan = decide(some, found if len(rows) == len(problem) else found.rows(rows), spending)
            said = tuple(f"by habit: {words}" for words in plan.reason)
            parts.append((rows, replace(plan, reason=said, seconds=0.0, warm=None)))
        for calls in budgets[budgets > 0].unique().tolist():
            rows = (budgets == calls).nonzero()[:, 0]
            parts.append((rows, self._thought(problem, habit, rows, calls, least)))
        plan = joined_plans(parts, len(problem))
        spent = plan.calls.double() / self.gate.calls
        reason = tuple(f"{words}; {said}" for words, said in zip(plan.reason, self._said(values, spent, vetoed),
                                                                 strict=True))
        signals = {**values, SHARE: spent}
        return replace(plan, reason=reason, signals=signals, warm=Begun(plan.actions), seconds=now() - began)

    # Habit -------------------------------------------------------------------------------------------------------

    def _horizon(self, problem: Problem) -> int:
        if self.horizon is None and problem.task.horizon is None:
            raise PlanningError("a horizon to follow the policy for", f"none, with {type(self.planner).__name__}",
                                "set `horizon` of Deliberate, or that of the task")
        return problem.horizon(self.horizon or 1)

    def _habit(self, problem: Problem, horizon: int) -> tuple[Searched, Habit]:
        first, imagined = followed(self.policy, problem, horizon)
        ways, calls = first[:, None], horizon
        if isinstance(problem.warm, Begun) and len(problem.warm.actions) == len(problem):
            last = fitted(shifted(problem.warm.actions, problem.since(self.commits(problem.task))), horizon)
            goes_on = (problem.decision > 0).to(first.device)[:, None, None]
            ways = torch.stack([first, torch.where(goes_on, last.to(first), first)], 1)
        if scenarios_of(problem) > 1:  # judged by the scenarios, not by what is expected
            found, scores, order = examine(problem, ways)
            return replace(found, calls=found.calls + calls), _habit_of(ways, scores, order)
        if ways.shape[1] > 1:
            imagined, calls = _beside(imagined, imagine(problem, ways[:, 1:])), 2 * horizon
        scores = verdict(problem, imagined, ways)
        order = feasibility_first(scores.energy, scores.violation, scores.feasible)
        every = torch.full((len(problem),), ways.shape[1], dtype=torch.int64)
        found = Searched(Best.of(ways, scores, order), every, torch.full_like(every, calls))
        return found, _habit_of(ways, scores, order)

    # Thinking ----------------------------------------------------------------------------------------------------

    def _budgets(self, problem: Problem, shares: Tensor, least: int) -> Tensor:
        """(B,) int64 predictor calls in all; 0: nothing beyond habit."""
        full = self.gate.calls if problem.task.budget.calls is None else min(
            self.gate.calls, problem.task.budget.calls)
        each = self._horizon(problem) * scenarios_of(problem)
        room = least + each * (1 + bool(problem.task.guardrails))
        steps = torch.tensor([least / full, *(g for g in self.grid if g * full >= room)], dtype=torch.float64)
        if len(steps) == 1:
            return torch.zeros(len(problem), dtype=torch.int64)
        at = (torch.searchsorted(steps, shares, right=True) - 1).clamp(0, len(steps) - 2)
        between = ((shares - steps[at]) / (steps[at + 1] - steps[at])).clamp(0, 1)
        draw = Streams(problem.seeds ^ _DITHER, problem.decision).uniform(1)[:, 0].double().cpu()
        index = at + (draw < between)
        return torch.where(index > 0, (steps[index] * full).round().long(), 0)

    def _thought(self, problem: Problem, habit: Habit, rows: Tensor, calls: int, least: int) -> Plan:
        some, start = _rows_of(problem, rows), habit.actions[rows]
        task = replace(some.task, budget=replace(some.task.budget, calls=calls - least))
        resumed = self.planner.resumed(some, start)
        plan = self.planner.plan(replace(some, task=task, proposal=start, warm=resumed, passed=0))
        return replace(plan, calls=plan.calls + least, warm=None)

    # Saying so ---------------------------------------------------------------------------------------------------

    def _said(self, values: Mapping[str, Tensor], spent: Tensor, vetoed: Tensor) -> Iterator[str]:
        tables = self.gate.signals
        for b in range(len(spent)):
            why = "a guardrail refused habit's way" if bool(vetoed[b]) else ""
            if not why and self.gate.urgency:
                ranks = {name: float(self.gate.rank_of(name, values[name][b : b + 1])) for name in tables}
                first = max(ranks, key=lambda name: ranks[name])
                why = f"{first} above {100 * ranks[first]:.0f}% of practice"
            yield f"spent {100 * float(spent[b]):.0f}% of the full budget{f' ({why})' if why else ''}"


def _beside(first: Imagined, second: Imagined) -> Imagined:
    """Futures (B, 1, …) of one problem each as two of its candidates."""
    names = ("states", "disagreement", "attention")
    both = {name: None if getattr(first, name) is None else torch.cat([getattr(first, name), getattr(second, name)], 1)
            for name in names}
    carry = tuple(torch.cat(pair, 1) for pair in zip(first.carry, second.carry, strict=True))
    return replace(first, **both, carry=carry)  # type: ignore[arg-type]


def _habit_of(ways: Tensor, scores: Verdict, order: Tensor) -> Habit:
    rows, first, last = torch.arange(len(order), device=order.device), order[:, 0], order[:, -1]
    apart = (scores.energy[rows, last] - scores.energy[rows, first]).abs().nan_to_num(nan=0.0, posinf=torch.inf)

    def pick(x: Tensor) -> Tensor:
        return x[rows, first][:, None]

    one = replace(
        scores, energy=pick(scores.energy), parts={n: pick(x) for n, x in scores.parts.items()},
        violation=pick(scores.violation), feasible=pick(scores.feasible),
        refused={n: pick(x) for n, x in scores.refused.items()},
        margins={n: pick(x) for n, x in scores.margins.items()}, imagined=scores.future(first), shown=None)
    return Habit(ways[rows, first], one, apart)


def _rows_of(problem: Problem, rows: Tensor) -> Problem:
    """
    Raises:
        PlanningError: a goal that is code, which cannot be told apart by problem.
    """
    if len(rows) == len(problem):
        return problem
    if isinstance(problem.task.goal, CallableGoal):
        raise PlanningError("problems of one share where the goal is code", f"{len(rows)} of {len(problem)}",
                            "let them act one by one, or aim at columns")
    return problem.rows(rows)
