"""A filter on the action that is executed: whatever a planner wants, the next step keeps a control barrier.

Knows the planner inside by core's abstract class only. Shapes: B problems, F fan actions, H horizon, n executed
steps, A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds, fallback_action
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.verdict import Verdict, guardrail_names, imagine, scenarios_of, score, verdict
from steersman.actor.sampling.icem import ICEM
from steersman.core import (
    ConfigError,
    Guardrail,
    Imagined,
    Plan,
    Planner,
    PlannerConfig,
    PlanningError,
    Problem,
    Task,
    register,
)
from steersman.core.clock import now
from steersman.core.records import where

_ENDINGS = 3  # ways to go on after a corrected action: as planned, holding it, with the fallback
_SHARE = 0.9  # of the seconds, for the planner inside
_RADII = 8  # of corrections: 2 (the whole range), 1, 1/2, … of half the range


class Barrier(Planner):
    """Discrete-time control-barrier filter around another planner.

        h(s') >= (1 - alpha) h(s),   h = -g of each guardrail's states,   for each of the n steps that will be executed

    With alpha = 1 it asks what guardrails ask; below, the reserve may shrink by no more than the share alpha a step, so
    that the agent slows down before a limit, and from outside a limit it comes back at that rate. Guardrails without a
    standing (`core.Guardrail.standing`) are asked for their margin. Margins that are not numbers count as violated.

    If the planner's action violates this, the nearest one that does not, among a fan of F actions imagined in one
    call, takes its place, held for the n steps (distance in units of half the range; discrete choices: the one of
    least energy). What follows it in the plan is whichever keeps every guardrail: the rest of the plan, the same
    action held, or the fallback; `feasible` says whether one does. If no action of the fan keeps the barrier, the
    task's fallback is taken and `feasible` is False.

    `reason` says what the filter did, `vetoed` counts what each guardrail's barrier refused ("barrier: NAME"), the
    planner's own action included. It draws nothing at random. Of a budget in calls the filter's part is set aside
    first, of one in seconds a tenth.

    Source: Agrawal & Sreenath 2017, "Discrete control barrier functions for safety-critical control of discrete
    systems"; filtering by search as in Wabersich & Zeilinger 2021, without their terminal set.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="barrier"):
        """planner: what is filtered; alpha: share of the reserve that one step may spend; fan: F, at most (discrete:
        every choice)."""

        planner: PlannerConfig = ICEM.Config()
        alpha: float = 0.5
        fan: int = 256

        def __post_init__(self) -> None:
            if not 0 < self.alpha <= 1 or self.fan < 2:
                raise ConfigError("0 < alpha <= 1 and fan >= 2", f"alpha {self.alpha}, fan {self.fan}",
                                  "0.5 and 256 are a good start")

        def build(self) -> Barrier:
            return Barrier(self, self.planner.build())

    def __init__(self, config: Config, planner: Planner) -> None:
        self.config, self.planner = config, planner
        self.execute, self.horizon = planner.execute, planner.horizon

    def inside(self) -> tuple[Planner, ...]:
        return (self.planner,)

    def around(self, wrap: Callable[[Planner], Planner]) -> Barrier:
        return Barrier(self.config, self.planner.around(wrap))

    def commits(self, task: Task) -> int:
        return self.planner.commits(task)

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        if not problem.task.guardrails:
            return self.planner.plan(problem)
        started, steps = now(), self.commits(problem.task)
        plan = self.planner.plan(self._inner(problem, steps))
        steps, horizon = min(steps, plan.actions.shape[1]), plan.actions.shape[1]
        refused = self._refused(problem, plan.actions[:, None, :steps])[:, 0]  # (B, guardrails)
        wrong, vetoes, calls = refused.any(1), refused.long(), plan.calls + steps * scenarios_of(problem)
        if bool(wrong.any()):
            fan = self._fan(problem, plan.actions[:, 0], self._affordable(problem, int(calls.max()), steps, horizon))
            held = fan[:, :, None].expand(-1, -1, steps, -1)
            refusals = self._refused(problem, held)
            choice, found = self._nearest(problem, held, ~refusals.any(2), plan.actions[:, 0])
            mended, scores, feasible = self._continued(problem, plan, choice, found, steps)
            reasons = self._reasons(problem, plan, refused, choice, found, feasible)
            energy = {name: where(wrong, x[:, 0], _energy(plan, name, x)) for name, x in scores.parts.items()}
            plan = replace(
                plan, actions=where(wrong, mended, plan.actions), energy=energy, reason=reasons,
                imagined=where(wrong, scores.imagined, plan.imagined),
                feasible=torch.where(wrong, feasible, plan.feasible),
            )
            vetoes = vetoes + refusals.sum(1) * wrong[:, None]
            each = fan.shape[1] * steps + _ENDINGS * horizon
            calls = calls + each * scenarios_of(problem) * wrong.cpu()
        vetoed = dict(plan.vetoed)
        for i, name in enumerate(f"barrier: {name}" for name in guardrail_names(problem.task.guardrails)):
            vetoed[name] = vetoes[:, i] + vetoed.get(name, 0)
        return replace(plan, vetoed=vetoed, calls=calls, seconds=now() - started)

    # Budget ------------------------------------------------------------------------------------------------------

    def _inner(self, problem: Problem, steps: int) -> Problem:
        """The problem as the planner inside gets it: with what the filter leaves of the budget."""
        budget = problem.task.budget
        if budget.calls is not None:
            horizon = problem.horizon(self.horizon or steps)
            wanted = ((1 + self.config.fan) * steps + _ENDINGS * horizon) * scenarios_of(problem)
            budget = replace(budget, calls=max(budget.calls - wanted, budget.calls // 2))
        if budget.seconds is not None:
            budget = replace(budget, seconds=_SHARE * budget.seconds)
        return replace(problem, task=replace(problem.task, budget=budget))

    def _affordable(self, problem: Problem, spent: int, steps: int, horizon: int) -> int:
        limit = problem.task.budget.calls
        if limit is None:
            return self.config.fan
        each = scenarios_of(problem)
        count = (limit - spent - _ENDINGS * horizon * each) // (steps * each)
        if count < 1:
            raise PlanningError(
                f"a budget of at least {2 * (_ENDINGS * horizon + 2 * steps) * each} predictor calls, half of them to "
                "filter", f"{limit}", "raise the budget or shorten the horizon",
            )
        return min(self.config.fan, count)

    # Filtering ---------------------------------------------------------------------------------------------------

    def _refused(self, problem: Problem, actions: Tensor) -> Tensor:
        """Which guardrail's barrier each of `actions` (B, K, n, A) breaks: (B, K, guardrails)."""
        guarded = tuple(_Slowed(g, self.config.alpha) for g in problem.task.guardrails)
        found = verdict(problem, imagine(problem, actions), actions, terms=(), guardrails=guarded)
        return torch.stack(list(found.refused.values()), -1)

    def _fan(self, problem: Problem, wanted: Tensor, count: int) -> Tensor:
        """Actions to choose from (B, F, A): half of them spread over the range, half around what was wanted (B, A)."""
        spec, b = problem.action, len(problem)
        if spec.kind == "discrete":
            return rays(spec, 1).to(wanted)[:count].expand(b, -1, -1)
        bounds = Bounds(spec, wanted)
        spread = torch.quasirandom.SobolEngine(spec.size, scramble=False).fast_forward(1).draw(max(1, count // 2))
        marks = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * min(spec.size, 8)).view(-1, min(spec.size, 8))
        unit = 2 * spread - 1
        if spec.size <= 8 and len(marks) <= len(unit) // 2:
            unit = torch.cat([marks, unit[len(marks):]])
        over = (bounds.middle + bounds.half * unit.to(wanted)).expand(b, -1, -1)
        near = max(0, count - len(unit) - 1)
        ways = (rays(spec, max(2, near // _RADII)).to(wanted) - bounds.middle) / bounds.half
        radii = 2.0 ** torch.arange(1, 1 - _RADII, -1, device=wanted.device)
        offsets = (radii[:, None, None] * ways * bounds.half).flatten(0, 1)[:near]
        fan = torch.cat([fallback_action(problem).to(wanted).expand(b, 1, -1), over, wanted[:, None] + offsets], 1)
        return bounds.clamp(fan[:, :count])

    def _nearest(self, problem: Problem, held: Tensor, kept: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The actions (B, n, A) that keep the barrier, nearest to `wanted` (B, A); which problems have one (B,)."""
        if problem.action.kind == "discrete":
            apart = verdict(problem, imagine(problem, held), held, guardrails=()).energy
        else:
            half = Bounds(problem.action, wanted).half
            apart = ((held[:, :, 0] - wanted[:, None]) / half).norm(dim=-1)
        order = feasibility_first(apart, torch.zeros_like(apart), kept)
        rows = torch.arange(len(held), device=held.device)
        return held[rows, order[:, 0]], kept.any(1)

    def _continued(
        self, problem: Problem, plan: Plan, choice: Tensor, found: Tensor, steps: int
    ) -> tuple[Tensor, Verdict, Tensor]:
        """Plans (B, H, A) that begin with `choice` (B, n, A), or the fallback where nothing was found; their scores,
        K = 1, and whether they keep every guardrail to the end."""
        spare = fallback_action(problem).to(plan.actions).expand_as(plan.actions)
        endings = torch.stack([plan.actions, choice[:, -1:].expand_as(plan.actions), spare], 1)
        endings = torch.cat([choice[:, None].expand(-1, _ENDINGS, -1, -1), endings[:, :, steps:]], 2)
        endings = where(found, endings, spare[:, None].expand_as(endings))
        scores = score(problem, endings)
        best = feasibility_first(scores.energy, scores.violation, scores.feasible)[:, 0]
        rows = torch.arange(len(best), device=best.device)
        one = replace(
            scores, parts={name: part[rows, best][:, None] for name, part in scores.parts.items()},
            imagined=scores.future(best), shown=None,
        )
        return endings[rows, best], one, scores.feasible[rows, best] & found

    # Saying so ---------------------------------------------------------------------------------------------------

    def _reasons(
        self, problem: Problem, plan: Plan, refused: Tensor, choice: Tensor, found: Tensor, feasible: Tensor
    ) -> tuple[str, ...]:
        names = guardrail_names(problem.task.guardrails)
        sentences = []
        for b, said in enumerate(plan.reason):
            broke = ", ".join(name for name, hit in zip(names, refused[b].tolist(), strict=True) if hit)
            if not broke:
                sentences.append(said)
                continue
            became = f"{_words(plan.actions[b, 0])} became {_words(choice[b, 0])}, the nearest action that keeps it"
            if not bool(found[b]):
                did = f"INFEASIBLE: no action keeps the barrier of {broke}; fallback action"
            else:
                did = f"{'' if bool(feasible[b]) else 'INFEASIBLE beyond the next step; '}barrier of {broke}: {became}"
            sentences.append(f"{did} (planned: {said})")
        return tuple(sentences)


class _Slowed(Guardrail):
    """A guardrail's barrier as its margin: the reserve is not spent too fast either."""

    def __init__(self, guardrail: Guardrail, alpha: float) -> None:
        self.guardrail, self.alpha = guardrail, alpha

    @property
    def name(self) -> str:
        return self.guardrail.name

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        return self.guardrail.barrier(imagined, actions, self.alpha)


def _energy(plan: Plan, name: str, like: Tensor) -> Tensor:
    """(B, H) of a term in the planner's own words, or not known."""
    known = plan.energy.get(name)
    return torch.full_like(like[:, 0], torch.nan) if known is None or known.shape != like[:, 0].shape else known


def _words(action: Tensor) -> str:
    return "[" + ", ".join(f"{x:.3g}" for x in action.tolist()) + "]"
