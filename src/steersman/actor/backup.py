"""A planner with a way out in hand: nothing is begun that a known manoeuvre could not end safely.

Knows the planner inside, the manoeuvre (a policy) and guardrails by core's abstract classes only.

Shapes: B problems, K candidates, S steps of a certificate, P steps before the manoeuvre, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor.bounds import Bounds
from steersman.actor.distributions import fitted, shifted
from steersman.actor.primitives import rays
from steersman.actor.ranking import feasibility_first
from steersman.actor.scoring import total_energy
from steersman.core import (
    ActionSpec,
    Belief,
    CallableGoal,
    ColumnGoal,
    ConfigError,
    Guardrail,
    Imagined,
    LatentGoal,
    Plan,
    Planner,
    Policy,
    Problem,
    Task,
)
from steersman.core.clock import now


@dataclass(frozen=True)
class Held:
    """What the next decision gets: the planner's own warm start, and each problem's certificate (B, S, A)."""

    inner: Any
    certificate: Tensor


class Backup(Planner):
    """Predictive safety filter: the plan of another planner, if it can be broken off safely after its first action.

    A **certificate** is an action sequence of S steps, some actions followed by a manoeuvre (brake, land, shut the
    valve) that is imagined in closed loop, which keeps every guardrail at every step and is at `rest` in the end.

    1. The inner planner plans. Its plan is taken if it is feasible and one of its beginnings of n steps, n in
       `commit`, followed by the manoeuvre, is a certificate.
    2. Otherwise the plan is what was left of the last decision's certificate (so whatever was safe stays available:
       recursive feasibility) or the manoeuvre alone, whichever is a certificate and has less energy.
    3. Otherwise it is the certificate of least energy among these two and each of `directions` directions at full
       strength for each of `lengths` steps before the manoeuvre.
    4. If none is a certificate, `feasible` is False, and what is taken is the way that exceeds the bare limits least,
       among those that keep them the one that goes least into the margins. That is the declared fallback: a manoeuvre
       instead of one constant action, which in an inertial world could be anything but safe. The task's `fallback` is
       not used.

    With an exact model, resting places that stay safe, and no margins, a certificate at one decision leaves one for
    the next, so that once certified, always certified. Margins that grow with the step and moving obstacles weaken
    this to what is measured: `steersman evidence guardrails`.

    manoeuvre  proposes actions from a belief; its first is taken, at every imagined step anew
    rest       a guardrail that the last imagined step must keep (for instance a speed near 0), or None

    `vetoed` counts the inner planner's, and per guardrail the certificates that it refused ("backup: NAME").

    Source: Wabersich & Zeilinger 2021, "A predictive safety filter for learning-based control of constrained nonlinear
    dynamical systems"; backup manoeuvres: Gurriet et al. 2020.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """steps S: at least what the manoeuvre takes to come to rest, and the longest of `commit` and `lengths`."""

        steps: int = 25
        commit: tuple[int, ...] = (1, 3, 6)
        directions: int = 24
        lengths: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 14)

        def __post_init__(self) -> None:
            longest = max((*self.commit, *self.lengths), default=0)
            if min((*self.commit, *self.lengths, self.directions), default=0) < 1 or self.steps <= longest:
                raise ConfigError("commit, lengths, directions >= 1 and steps beyond the longest", f"{self}",
                                  "look further ahead, or begin with fewer steps")

    def __init__(
        self, planner: Planner, manoeuvre: Policy, *, rest: Guardrail | None = None, config: Config | None = None
    ) -> None:
        self.planner, self.manoeuvre, self.rest = planner, manoeuvre, rest
        self.config = config or Backup.Config()

    @property
    def execute(self) -> int:
        """One action at a time: the certificate is for what follows the first."""
        return 1

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        began = now()
        held = problem.warm if isinstance(problem.warm, Held) else None
        inner = replace(problem, warm=held.inner if held is not None else None)
        plan = self.planner.plan(inner)
        if not problem.task.guardrails:
            return replace(plan, warm=Held(plan.warm, fitted(plan.actions, self.config.steps)))
        tried = self._beginnings(problem, plan)
        begun, good = tried.best()
        taken = plan.feasible & good
        calls, vetoes = plan.calls + tried.calls, tried.vetoes()
        nominal = plan
        for fan in (False, True):
            if bool(taken.all()):
                break
            rows = _rows_of(problem, ~taken)
            some = _some(problem, rows)
            last = None if held is None or len(held.certificate) != len(problem) else held.certificate[rows]
            ways = self._manoeuvres(some, last, fan)
            plan = self._instead(some, plan, nominal, ways, rows, taken)
            found, good = ways.best()
            done = taken.index_copy(0, rows, good)
            begun = torch.where(taken[:, None, None], begun, begun.index_copy(0, rows, found))
            calls = calls.index_add(0, rows, torch.full((len(rows),), ways.calls))
            vetoes = vetoes.index_add(0, rows, ways.vetoes())
            taken = taken | done
        vetoed = dict(plan.vetoed)
        for i, guardrail in enumerate(problem.task.guardrails):
            name = f"backup: {guardrail.name}"
            vetoed[name] = vetoes[:, i] + vetoed.get(name, 0)
        return replace(plan, vetoed=vetoed, calls=calls, warm=Held(plan.warm, begun),
                       seconds=now() - began)

    # Candidates --------------------------------------------------------------------------------------------------

    def _beginnings(self, problem: Problem, plan: Plan) -> Ways:
        c = self.config
        lengths = torch.tensor([min(n, plan.actions.shape[1]) for n in c.commit])
        prefix = plan.actions[:, None, : int(lengths.max())].expand(-1, len(lengths), -1, -1)
        return self._judged(problem, prefix, lengths.expand(len(problem), -1))

    def _manoeuvres(self, problem: Problem, last: Tensor | None, fan: bool) -> Ways:
        """The manoeuvre alone, what is left of the last certificate (B, S, A), and with `fan` every direction held for
        every length before the manoeuvre."""
        c, b = self.config, len(problem)
        spare = self.manoeuvre.propose(problem.belief, problem.task)[:, 0]
        prefix = spare[:, None, None].expand(-1, 1, c.steps, -1)
        lengths = torch.zeros(b, 1, dtype=torch.long)
        if last is not None:
            goes_on = (problem.decision > 0).to(torch.long)
            prefix = torch.cat([prefix, shifted(last, 1)[:, None].to(prefix.dtype)], 1)
            lengths = torch.cat([lengths, ((c.steps - 1) * goes_on)[:, None]], 1)
        if fan:
            ways = strongest(problem.action, c.directions).to(prefix).repeat_interleave(len(c.lengths), 0)
            prefix = torch.cat([prefix, ways[None, :, None].expand(b, -1, c.steps, -1)], 1)
            held = torch.tensor(c.lengths * (len(ways) // len(c.lengths)))
            lengths = torch.cat([lengths, held.expand(b, -1)], 1)
        return self._judged(problem, prefix, lengths)

    def _judged(self, problem: Problem, prefix: Tensor, lengths: Tensor) -> Ways:
        """prefix (B, K, P, A), of which lengths (B, K) count; then the manoeuvre."""
        imagined, actions = self._followed(problem, prefix, lengths)
        limits = problem.task.guardrails
        margins = [g.margin(imagined, actions) for g in limits]
        bare = torch.stack([g.bare().margin(imagined, actions).nan_to_num(nan=torch.inf).amax(2) for g in limits], -1)
        if self.rest is not None:
            final = self.rest.margin(imagined, actions)[..., -1:]
            margins.append(torch.cat([torch.full_like(final, -torch.inf).expand_as(margins[0][..., 1:]), final], -1))
        worst = torch.stack([m.nan_to_num(nan=torch.inf).amax(2) for m in margins], -1)  # (B, K, guardrails [+ rest])
        energy, parts = total_energy(problem.costs, problem.task.weights, imagined, actions, problem.task)
        return Ways(actions, imagined, energy.sum(2), parts, worst, bare.amax(-1).clamp_min(0), len(limits))

    def _followed(self, problem: Problem, prefix: Tensor, lengths: Tensor) -> tuple[Imagined, Tensor]:
        """Imagine S steps, the manoeuvre answering the imagined states: (B, K, S+1, D) and actions (B, K, S, A)."""
        (b, k), steps = prefix.shape[:2], self.config.steps
        belief, count = problem.belief.repeat(k), lengths.flatten()
        bounds = Bounds(problem.action, problem.belief.state) if problem.action.kind == "continuous" else None
        states, actions = [belief.state], []
        for t in range(steps):  # the manoeuvre looks at where it is
            action = self.manoeuvre.propose(belief, problem.task)[:, 0].to(prefix.dtype)
            if t < prefix.shape[2]:
                action = torch.where((t < count)[:, None], prefix[:, :, t].flatten(0, 1), action)
            action = action if bounds is None else bounds.clamp(action)
            known = None if problem.exogenous is None else problem.exogenous[:, t : t + 1].repeat_interleave(k, 0)
            belief = problem.model.imagine(belief, action[:, None, None], known).last()
            states.append(belief.state)
            actions.append(action)
        imagined = Imagined(torch.stack(states, 1).unflatten(0, (b, k)), problem.belief.context)
        return imagined, torch.stack(actions, 1).unflatten(0, (b, k))

    # Deciding ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _instead(problem: Problem, plan: Plan, nominal: Plan, ways: Ways, rows: Tensor, taken: Tensor) -> Plan:
        """The plan with the rows' best manoeuvres in place of what was not certified; `nominal` is the inner one."""
        horizon, index = plan.actions.shape[1], ways.order[:, 0]
        at = torch.arange(len(rows))
        put = lambda old, new: torch.where(  # noqa: E731
            taken.view(-1, *[1] * (old.dim() - 1)), old, old.index_copy(0, rows, new.to(old.dtype)))
        chosen = ways.imagined.select(index)
        states = put(plan.imagined.states, fitted(chosen.states.flatten(3), horizon + 1)
                     .view(len(rows), 1, horizon + 1, *chosen.states.shape[3:]))
        good, excess = ways.certified[at, index], ways.excess[at, index]
        reasons = list(plan.reason)
        for i, row in enumerate(rows.tolist()):
            if not bool(taken[row]):
                planned, said = bool(nominal.feasible[row]), nominal.reason[row]
                reasons[row] = _words(bool(good[i]), float(excess[i]), planned, said)
        energy = {name: put(part, fitted(ways.parts[name][at, index][..., None], horizon)[..., 0])
                  for name, part in plan.energy.items()}
        return replace(
            plan, actions=put(plan.actions, fitted(ways.actions[at, index], horizon)), energy=energy,
            imagined=replace(plan.imagined, states=states, disagreement=None, attention=None, carry=()),
            feasible=put(plan.feasible, good), reason=tuple(reasons),
        )


@dataclass(frozen=True)
class Ways:
    """K candidates of S steps for each of B problems, judged.

    actions (B, K, S, A); energy (B, K); parts name -> (B, K, S); worst (B, K, G) the largest margin of each guardrail
    over the steps, the last G beyond `guardrails` being the rest at the end; bare (B, K) by how much the limits are
    exceeded at worst where margins do not count
    """

    actions: Tensor
    imagined: Imagined
    energy: Tensor
    parts: dict[str, Tensor]
    worst: Tensor
    bare: Tensor
    guardrails: int

    @property
    def certified(self) -> Tensor:
        """(B, K) bool."""
        return (self.worst <= 0).all(2) & torch.isfinite(self.energy)

    @property
    def excess(self) -> Tensor:
        """(B, K): by how much the guardrails are exceeded at worst."""
        return self.worst[..., : self.guardrails].amax(-1).clamp_min(0)

    @property
    def order(self) -> Tensor:
        """(B, K), best first."""
        energy = self.energy.nan_to_num(nan=torch.inf, posinf=torch.inf)
        by_excess = self.excess.argsort(dim=1, stable=True)
        first = by_excess.gather(1, self.bare.gather(1, by_excess).argsort(dim=1, stable=True))
        rank = first.argsort(dim=1).to(energy)  # by the bare limits; among equals by the margins
        return feasibility_first(energy, rank, self.certified)

    @property
    def calls(self) -> int:
        """Predictor calls per problem."""
        return self.actions.shape[1] * self.actions.shape[2]

    def best(self) -> tuple[Tensor, Tensor]:
        """The best candidates' actions (B, S, A), and whether each is a certificate (B,)."""
        rows, first = torch.arange(len(self.actions)), self.order[:, 0]
        return self.actions[rows, first], self.certified[rows, first]

    def vetoes(self) -> Tensor:
        """(B, guardrails): candidates that each guardrail refused."""
        return (self.worst[..., : self.guardrails] > 0).sum(1)


def strongest(action: ActionSpec, count: int) -> Tensor:
    """About `count` directions (R, A), each as far as the bounds allow; discrete: every choice."""
    fan = rays(action, count)
    if action.kind == "discrete":
        return fan
    low, high = torch.tensor(action.low), torch.tensor(action.high)
    middle, half = (high + low) / 2, (high - low) / 2
    unit = (fan - middle) / half
    return (middle + half * unit / unit.abs().amax(1, keepdim=True).clamp_min(1e-6)).clamp(low, high)


def _words(certified: bool, excess: float, planned: bool, said: str) -> str:
    why = "the plan could not be broken off safely" if planned else "no plan kept every guardrail"
    if certified:
        return f"backup: {why}; a manoeuvre that does is begun ({said})"
    return f"INFEASIBLE: {why} and no manoeuvre does; the one of least harm exceeds margins by {excess:.3g} ({said})"


def _rows_of(problem: Problem, mask: Tensor) -> Tensor:
    """Indices of the problems of a mask; all of them where the goal cannot be told apart by problem."""
    if isinstance(problem.task.goal, CallableGoal):
        return torch.arange(len(problem))
    return mask.nonzero()[:, 0]


def _some(problem: Problem, rows: Tensor) -> Problem:
    """Some of the problems."""
    n = len(problem)
    if len(rows) == n:
        return problem
    belief: Belief = problem.belief[rows]
    exogenous = None if problem.exogenous is None else problem.exogenous[rows]
    return replace(problem, belief=belief, task=_task(problem.task, rows, n), seeds=problem.seeds[rows],
                   decision=problem.decision[rows], exogenous=exogenous, warm=None, proposal=None)


def _task(task: Task, rows: Tensor, count: int) -> Task:
    goal = task.goal
    if isinstance(goal, ColumnGoal):
        goal = replace(goal, targets={
            name: value[rows] if isinstance(value, Tensor) and value.numel() == count else value
            for name, value in goal.targets.items()
        })
    elif isinstance(goal, LatentGoal) and len(goal.latent.state) == count:
        goal = goal.map(lambda x: x[rows])
    return replace(task, goal=goal, guardrails=tuple(g.keep(rows) for g in task.guardrails))
