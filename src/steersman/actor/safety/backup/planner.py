"""A planner with a way out in hand: nothing is begun that a known manoeuvre could not end safely.

Knows the planner inside, the manoeuvre (a policy) and guardrails by core's abstract classes only.

Shapes: B problems, K candidates, S steps of a certificate, P steps before the manoeuvre, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.primitives import rays
from steersman.actor.ground.verdict import guardrail_names, refuse_scenarios
from steersman.actor.policy.manoeuvres import Constant
from steersman.actor.safety.backup.refining import refined
from steersman.actor.safety.backup.ways import Judge, Ways
from steersman.actor.sampling.distributions import fitted, shifted
from steersman.actor.sampling.icem import ICEM
from steersman.core import (
    ActionSpec,
    CallableGoal,
    ConfigError,
    Guardrail,
    GuardrailConfig,
    Plan,
    Planner,
    PlannerConfig,
    PlanningError,
    Policy,
    PolicyConfig,
    Problem,
    Readout,
    Signature,
    TensorRecord,
    register,
)
from steersman.core.clock import now


@dataclass(frozen=True)
class Held(TensorRecord):
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
    4. Otherwise the `bend` ways that keep the largest share of their margins are bent, by `rounds` steps along
       gradients, to keep more (`refining.refined`), if the task's budget has room for it; continuous actions, and what
       passes gradients on.
    5. If that makes no certificate either, `feasible` is False, and what is taken is the way that keeps the largest
       share of its margins (`Ways.share`): one that touches nothing if there is one, and stays as clear, for its worst
       step, as the model's error there asks for. That is the declared fallback: a manoeuvre instead of one constant
       action, which in an inertial world could be anything but safe. The task's `fallback` is not used.

    With an exact model, resting places that stay safe, and no margins, a certificate at one decision leaves one for
    the next, so that once certified, always certified. Margins that grow with the step and moving obstacles weaken
    this to what is measured: `steersman evidence guardrails`.

    Built from parts, or wholly by name (`Named`): `--set agent.planner=…`, see docs/guardrails.md.

    manoeuvre  proposes actions from a belief; its first is taken, at every imagined step anew
    rest       a guardrail that the last imagined step must keep (for instance a speed near 0), or None

    `vetoed` counts the inner planner's, and per guardrail the certificates that it refused ("backup: NAME").

    Source: Wabersich & Zeilinger 2021, "A predictive safety filter for learning-based control of constrained nonlinear
    dynamical systems"; backup manoeuvres: Gurriet et al. 2020.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """steps S: at least what the manoeuvre takes to come to rest, and the longest of `commit` and `lengths`.

        commit, directions, lengths, bend, rounds: see above; 0 rounds: nothing is bent.
        """

        steps: int = 25
        commit: tuple[int, ...] = (1, 3, 6)
        directions: int = 24
        lengths: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 14)
        bend: int = 4
        rounds: int = 25

        def __post_init__(self) -> None:
            longest = max((*self.commit, *self.lengths), default=0)
            if min((*self.commit, *self.lengths, self.directions), default=0) < 1 or self.steps <= longest:
                raise ConfigError("commit, lengths, directions >= 1 and steps beyond the longest", f"{self}",
                                  "look further ahead, or begin with fewer steps")
            if self.bend < 1 or self.rounds < 0:
                raise ConfigError("bend >= 1 and rounds >= 0", f"{self}", "set rounds=0 to bend nothing")

    @register(Planner)
    class Named(Config, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="backup"):
        """Everything by name, for a run's configuration: the planner inside, a manoeuvre (`constant`, `brake`) and the
        limits on columns that say rest, built once the agent's read-out is known."""

        planner: PlannerConfig = ICEM.Config()
        manoeuvre: PolicyConfig = Constant.Config()
        rest: GuardrailConfig | None = None

        def build(self) -> Backup:
            return Backup(self.planner.build(), None, config=self)

    def __init__(
        self, planner: Planner, manoeuvre: Policy | None, *, rest: Guardrail | None = None, config: Config | None = None
    ) -> None:
        self.planner, self._manoeuvre, self.rest = planner, manoeuvre, rest
        self.config, self.horizon = config or Backup.Config(), planner.horizon

    def inside(self) -> tuple[Planner, ...]:
        return (self.planner,)

    def around(self, wrap: Callable[[Planner], Planner]) -> Backup:
        return Backup(self.planner.around(wrap), self._manoeuvre, rest=self.rest, config=self.config)

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        super().prepare(signature, readout, latent_shape)
        if isinstance(self.config, Backup.Named):
            self._manoeuvre = self.config.manoeuvre.build(signature, readout)
            rest = self.config.rest
            self.rest = None if rest is None else rest.build(readout, latent_shape, {})

    @property
    def manoeuvre(self) -> Policy:
        """
        Raises:
            PlanningError: it is only named so far.
        """
        if self._manoeuvre is None:
            raise PlanningError("a manoeuvre", "one that is only named", "prepare(…) the planner, as an agent does")
        return self._manoeuvre

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        began = now()
        held = problem.warm if isinstance(problem.warm, Held) else None
        inner = replace(problem, warm=held.inner if held is not None else None)
        plan = self.planner.plan(inner)
        if not problem.task.guardrails:
            return replace(plan, warm=Held(plan.warm, fitted(plan.actions, self.config.steps)))
        refuse_scenarios(problem, "with a way out in hand")
        judge = Judge(self.manoeuvre, self.rest, self.config.steps)
        tried = judge.ways(problem, *self._beginnings(plan))
        begun, good = tried.best()
        decision = _Decision(plan, begun, plan.feasible & good, plan.calls + tried.calls, tried.vetoes(), began)
        for ways, rows, calls in self._searches(judge, problem, held, decision):
            decision.take(ways, rows, calls)
        vetoed = dict(plan.vetoed)
        for i, name in enumerate(f"backup: {name}" for name in guardrail_names(problem.task.guardrails)):
            vetoed[name] = decision.vetoes[:, i] + vetoed.get(name, 0)
        return replace(decision.plan, vetoed=vetoed, calls=decision.calls, warm=Held(plan.warm, decision.begun),
                       seconds=now() - began)

    def _searches(
        self, judge: Judge, problem: Problem, held: Held | None, decision: _Decision
    ) -> Iterator[tuple[Ways, Tensor, int]]:
        """Ways for the problems that are left open, which these are, and predictor calls spent on each of them: by more
        and more effort."""
        last = None if held is None or len(held.certificate) != len(problem) else held.certificate
        for fan in (False, True):
            if bool(decision.taken.all()):
                return
            rows = _rows_of(problem, ~decision.taken)
            some = problem.rows(rows)
            ways = judge.ways(some, *self._manoeuvres(some, None if last is None else last[rows], fan))
            yield ways, rows, ways.calls
        lost = ~decision.taken[rows] & self._affordable(problem, decision.calls[rows])
        if bool(lost.any()):
            c, index = self.config, _rows_of(some, lost)
            start = ways.best_of(c.bend)[index]
            found, calls = refined(judge, some.rows(index), start, max(c.lengths), c.rounds, decision.late(problem))
            yield found, rows[index], calls

    def _affordable(self, problem: Problem, spent: Tensor) -> Tensor:
        """Which problems may be bent (B,) bool: actions are amounts, and the budget of predictor calls has room."""
        c, calls = self.config, problem.task.budget.calls
        if not c.rounds or problem.action.kind != "continuous" or problem.action.whole:
            return torch.zeros_like(spent, dtype=torch.bool)
        most = torch.inf if calls is None else calls
        return spent + 2 * c.bend * c.steps * (c.rounds + 1) <= most

    # Candidates --------------------------------------------------------------------------------------------------

    def _beginnings(self, plan: Plan) -> tuple[Tensor, Tensor]:
        """The plan's beginnings: actions (B, K, P, A) and how many of them count (B, K)."""
        lengths = torch.tensor([min(n, plan.actions.shape[1]) for n in self.config.commit])
        prefix = plan.actions[:, None, : int(lengths.max())].expand(-1, len(lengths), -1, -1)
        return prefix, lengths.expand(len(prefix), -1)

    def _manoeuvres(self, problem: Problem, last: Tensor | None, fan: bool) -> tuple[Tensor, Tensor]:
        """The manoeuvre alone, what is left of the last certificate (B, S, A), and with `fan` every direction held for
        every length before the manoeuvre."""
        c, b = self.config, len(problem)
        spare = self.manoeuvre.propose(problem.belief, problem.task)[:, 0]
        prefix = spare[:, None, None].expand(-1, 1, c.steps, -1)
        lengths = torch.zeros(b, 1, dtype=torch.long)
        if last is not None:
            goes_on = (problem.decision > 0).to(torch.long)
            prefix = torch.cat([prefix, shifted(last, problem.since(1))[:, None].to(prefix.dtype)], 1)
            lengths = torch.cat([lengths, ((c.steps - 1) * goes_on)[:, None]], 1)
        if fan:
            ways = strongest(problem.action, c.directions).to(prefix).repeat_interleave(len(c.lengths), 0)
            prefix = torch.cat([prefix, ways[None, :, None].expand(b, -1, c.steps, -1)], 1)
            held = torch.tensor(c.lengths * (len(ways) // len(c.lengths)))
            lengths = torch.cat([lengths, held.expand(b, -1)], 1)
        return prefix, lengths


class _Decision:
    """What is decided so far for each of B problems.

    plan    the inner planner's, with ways out in place of what was not certified
    begun   (B, S, A) the way that is begun; taken (B,) bool: it is a certificate
    calls   (B,) predictor calls; vetoes (B, guardrails)
    began   when the decision began, s
    """

    def __init__(
        self, plan: Plan, begun: Tensor, taken: Tensor, calls: Tensor, vetoes: Tensor, began: float
    ) -> None:
        self.plan, self.begun, self.taken, self.calls, self.vetoes = plan, begun, taken, calls, vetoes
        self._nominal, self._began = plan, began

    def late(self, problem: Problem) -> Callable[[], bool]:
        """Asks whether the budget of seconds is spent."""
        limit = problem.task.budget.seconds
        return lambda: limit is not None and now() - self._began >= limit

    def take(self, ways: Ways, rows: Tensor, calls: int) -> None:
        """The best of `ways` for those of the problems `rows` that have no certificate yet."""
        self.plan = self._instead(ways, rows)
        found, good = ways.best()
        done = self.taken.index_copy(0, rows, good)
        self.begun = torch.where(self.taken[:, None, None], self.begun, self.begun.index_copy(0, rows, found))
        self.calls = self.calls.index_add(0, rows, torch.full((len(rows),), calls))
        self.vetoes = self.vetoes.index_add(0, rows, ways.vetoes())
        self.taken = self.taken | done

    def _instead(self, ways: Ways, rows: Tensor) -> Plan:
        """The plan with the rows' best ways in place of what was not certified."""
        plan, taken = self.plan, self.taken
        horizon, index = plan.actions.shape[1], ways.order[:, 0]
        at = torch.arange(len(rows))

        def put(old: Tensor, new: Tensor) -> Tensor:
            open_ = ~taken.view(-1, *[1] * (old.dim() - 1))
            return torch.where(open_, old.index_copy(0, rows, new.to(old.dtype)), old)

        chosen = ways.imagined.select(index)
        states = put(plan.imagined.states, fitted(chosen.states.flatten(3), horizon + 1)
                     .view(len(rows), 1, horizon + 1, *chosen.states.shape[3:]))
        good, excess, share = (x[at, index] for x in (ways.certified, ways.excess, ways.share))
        reasons = list(plan.reason)
        for i, row in enumerate(rows.tolist()):
            if not bool(taken[row]):
                planned, said = bool(self._nominal.feasible[row]), self._nominal.reason[row]
                reasons[row] = _words(bool(good[i]), float(excess[i]), float(share[i]) >= 0, planned, said)
        energy = {name: put(part, fitted(ways.parts[name][at, index][..., None], horizon)[..., 0])
                  for name, part in plan.energy.items()}
        return replace(
            plan, actions=put(plan.actions, fitted(ways.actions[at, index], horizon)), energy=energy,
            imagined=replace(plan.imagined, states=states, disagreement=None, attention=None, carry=()),
            feasible=put(plan.feasible, good), reason=tuple(reasons),
        )


def strongest(action: ActionSpec, count: int) -> Tensor:
    """About `count` directions (R, A), each as far as the bounds allow; discrete: every choice."""
    fan = rays(action, count)
    if action.kind == "discrete":
        return fan
    low, high = torch.tensor(action.low), torch.tensor(action.high)
    middle, half = (high + low) / 2, (high - low) / 2
    unit = (fan - middle) / half
    return (middle + half * unit / unit.abs().amax(1, keepdim=True).clamp_min(1e-6)).clamp(low, high)


def _words(certified: bool, excess: float, keeps: bool, planned: bool, said: str) -> str:
    why = "the plan could not be broken off safely" if planned else "no plan kept every guardrail"
    if certified:
        return f"backup: {why}; a manoeuvre that does is begun ({said})"
    limits = "keeps the limits themselves" if keeps else "breaks a limit"
    return (f"INFEASIBLE: {why} and no manoeuvre does; the one of least harm exceeds margins by {excess:.3g} and "
            f"{limits} ({said})")


def _rows_of(problem: Problem, mask: Tensor) -> Tensor:
    """Indices of the problems of a mask; all of them where the goal cannot be told apart by problem."""
    if isinstance(problem.task.goal, CallableGoal):
        return torch.arange(len(problem))
    return mask.nonzero()[:, 0]
