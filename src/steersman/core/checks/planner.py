"""Does a planner of your own keep what every planner promises? Knows `core.Planner` only.

Shapes: B problems, H horizon, D latent size, A action size.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from steersman.core.checks.drift import Case, Drift, allowed, draw_case
from steersman.core.checks.promises import Ledger
from steersman.core.checks.terms import takes_chance_as_told, weighs_every_term
from steersman.core.errors import PlanningError
from steersman.core.planner import Planner
from steersman.core.problem import Plan, Problem
from steersman.core.records import rows as rows_of
from steersman.core.signature import ActionSpec
from steersman.core.task import Budget
from steersman.core.types import Belief, Imagined
from steersman.core.world_model import WorldModel

Kind = Literal["amounts", "whole", "choices"]

AMOUNTS: dict[str, ActionSpec] = {
    "[-1, 1]²": ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)),
    "one-sided": ActionSpec("continuous", (0.1, -7.3), (0.7, -1.1)),
    "tiny": ActionSpec("continuous", (1.0,), (1.0 + 2**-21,)),
    "huge": ActionSpec("continuous", (-3e38, -1e30), (3e38, 2e30)),
    "no float32": ActionSpec("continuous", (-0.1 - 1e-9, 16777217.0, 1e-30), (0.1 + 1e-9, 16777229.0, 3e-30)),
}
"""Bounds that planners have been seen to leave."""
WHOLE: dict[str, ActionSpec] = {
    "a gear and an amount": ActionSpec("continuous", (-1.0, 0.5), (1.0, 4.5), whole=(1,)),
    "open or shut": ActionSpec("continuous", (0.0,), (1.0,), whole=(0,)),
}
CHOICES: dict[str, ActionSpec] = {
    "five choices": ActionSpec("discrete", choices=5), "one choice": ActionSpec("discrete", choices=1)
}
SPECS: dict[Kind, dict[str, ActionSpec]] = {"amounts": AMOUNTS, "whole": WHOLE, "choices": CHOICES}

_TOGETHER = 5


def check_planner(
    planner: Planner, *, draws: bool = False, passes: int = 3, problem: Callable[[Case], Problem] | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Give `planner` small problems whose answers are known; the promises that it kept, in words.

    actions within bounds, as planned and as imagined, however odd the bounds are; the same plan, bit for bit, for a
    problem alone and beside any others, cold and warm; the same for the same seed, whatever the global generator says;
    `feasible` only where every guardrail holds at every step of what is planned, and True where no plan breaks one;
    the declared fallback where nothing is feasible, with `feasible` False and a reason; no more calls than the budget
    has; an end in time; futures that are not numbers never chosen; a horizon of 1; nothing beyond the trusted horizon;
    a policy's proposal out of bounds; exogenous inputs handed to the model, or refused; a warm start taken again, for
    some of the problems, and by a batch of another size; in inference mode the same plan; the problem left as it was;
    every term that the task weighs counted, or refused by name; guardrails kept in every scenario, or scenarios
    refused.

    It asks for amounts, whole numbers and choices; a kind that is refused with a PlanningError is left out. Bit for bit
    is promised where the world model computes each problem's figures on their own, as the one used here does; matrix
    products may differ in the last bit between batch sizes.

    draws    it draws at random: then two seeds must lead to two plans
    passes   how many times longer than one imagination a second's budget may be overdrawn
    problem  makes the problem of a case, for planners that need a world of their own (default: `Case.problem`)

    Raises:
        PromiseError: the first promise that is broken, and in which case.
        PlanningError: it plans for none of the three kinds of action.

    >>> check_planner(Shooting(), draws=True)                                            # doctest: +SKIP
    """
    ledger, make = Ledger(f"planner {type(planner).__name__}"), problem or Case.problem
    refusals = []
    for kind, specs in SPECS.items():
        first = next(iter(specs.values()))
        try:
            planner.plan(make(draw_case(first, 1, seed)))
        except PlanningError as error:
            refusals.append(f"{kind}: {error}")
            continue
        asked = _Asked(ledger, planner, make, kind, passes, seed)
        asked.form(specs)
        asked.neighbours(first)
        asked.randomness(first, draws)
        asked.guardrails(first)
        asked.limits(first)
        asked.odd_inputs(first)
        asked.terms(first)
    if len(refusals) == len(SPECS):
        raise PlanningError("a planner of amounts, whole numbers or choices", "; ".join(refusals), "check your problem")
    return ledger.kept


@dataclasses.dataclass(frozen=True)
class _Asked:
    ledger: Ledger
    planner: Planner
    make: Callable[[Case], Problem]
    kind: str
    passes: int
    seed: int

    def plan(self, case: Case, words: str, **changes: Any) -> tuple[Plan, Problem]:
        problem = replace(self.make(case), **changes)
        return self.ledger.ask(f"{self.kind}, {words}", lambda: self.planner.plan(problem)), problem

    def keep(self, promise: str, holds: bool, words: str, got: str, fix: str) -> None:
        self.ledger.keep(promise, holds, f"{self.kind}, {words}", got, fix)

    # What a plan looks like, and bounds --------------------------------------------------------------------------

    def form(self, specs: Mapping[str, ActionSpec]) -> None:
        for name, spec in specs.items():
            for horizon in (None, 1, 4):
                words = f"bounds {name}, horizon {horizon or 'of its own'}"
                case = replace(draw_case(spec, 3, self.seed), horizon=horizon)
                plan, problem = self.plan(case, words)
                self._form(plan, spec, words)
                self._bounds(plan, problem, words)

    def _form(self, plan: Plan, spec: ActionSpec, words: str) -> None:
        b, h = plan.actions.shape[:2]
        kind = torch.int64 if spec.kind == "discrete" else torch.float32
        form = plan.actions.dtype == kind and plan.actions.shape == (3, h, spec.size) and h > 0
        self.keep("returns actions (B, H, A), float32 or int64", form, words,
                  f"{plan.actions.dtype} {tuple(plan.actions.shape)}", "one action a step for each problem")
        rows = (len(plan.reason), *(len(x) for x in (plan.feasible, plan.kept, plan.calls, *plan.vetoed.values())))
        self.keep("says of each problem whether it is feasible, why, and what it cost", set(rows) == {b}, words,
                  f"{rows} entries for {b} problems", "fill every field of Plan")
        self.keep("gives reasons in words", all(isinstance(r, str) and r for r in plan.reason), words,
                  f"{plan.reason}", "say why this action")
        self.keep("finds a plan where nothing forbids one", bool(plan.feasible.all()), words,
                  f"feasible {plan.feasible.tolist()}", "feasible is True where no guardrail is broken")

    def _bounds(self, plan: Plan, problem: Problem, words: str) -> None:
        fix = "clamp every candidate into bounds that are rounded inwards to float32"
        self.keep("keeps actions within bounds", allowed(plan.actions, problem.action), words,
                  f"actions from {plan.actions.amin((0, 1)).tolist()} to {plan.actions.amax((0, 1)).tolist()} for "
                  f"{list(problem.action.low)} to {list(problem.action.high)}", fix)
        if isinstance(problem.model, Drift):
            self.keep("imagines no action out of bounds", not problem.model.outside, words, "one that is not", fix)

    # Neighbours and randomness -----------------------------------------------------------------------------------

    def neighbours(self, spec: ActionSpec) -> None:
        for words, case in {
            "side by side": draw_case(spec, _TOGETHER, self.seed + 1),
            "side by side with a guardrail": _walled(draw_case(spec, _TOGETHER, self.seed + 2), 0.5),
        }.items():
            together, _ = self.plan(case, words)
            later = replace(case, decision=case.decision + 1)
            after, _ = self.plan(later, f"{words}, next decision", warm=together.warm)
            for index in ([0], [3], [4, 2], [1, 0, 3, 2]):
                rows = torch.tensor(index)
                some, _ = self.plan(case.rows(rows), f"{words}, problems {index}")
                self._same(some, together, rows, f"{words}, problems {index}")
                warm, _ = self.plan(later.rows(rows), f"{words}, problems {index}, next decision", warm=some.warm)
                self._same(warm, after, rows, f"{words}, problems {index}, next decision")

    def _same(self, some: Plan, together: Plan, rows: Tensor, words: str) -> None:
        same = torch.equal(some.actions, together.actions[rows]) and torch.equal(some.feasible, together.feasible[rows])
        apart = (some.actions.double() - together.actions[rows].double()).abs().amax() if (
            some.actions.shape == together.actions[rows].shape) else torch.inf
        self.keep("plans for a problem alone as beside others", same, words, f"actions {float(apart):.3g} apart",
                  "give each problem its own generator (core.Streams), and reduce within a problem only")

    def randomness(self, spec: ActionSpec, draws: bool) -> None:
        case = draw_case(spec, 3, self.seed + 3)
        state = torch.random.get_rng_state()
        plan, _ = self.plan(case, "once")
        untouched = torch.equal(state, torch.random.get_rng_state())
        fix = "draw from core.Streams(problem.seeds, problem.decision)"
        self.keep("leaves the global random generator alone", untouched, "once", "another state of it", fix)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 99)
            again, _ = self.plan(case, "again")
        self.keep("plans the same for the same seed", torch.equal(plan.actions, again.actions), "again",
                  "another plan", fix)
        other, _ = self.plan(replace(case, seeds=case.seeds + 1), "another seed")
        if draws and not (spec.kind == "discrete" and spec.choices == 1):
            self.keep("draws otherwise for another seed", not torch.equal(plan.actions, other.actions), "another seed",
                      "the same plan", fix)

    # Guardrails --------------------------------------------------------------------------------------------------

    def guardrails(self, spec: ActionSpec) -> None:
        for step in range(4):
            case = draw_case(spec, 6, self.seed + 10 + step)
            case = _walled(replace(case, goal=case.goal + 6), [0.0, 0.3, 1.5, 4.0][step])
            words = f"a wall, draw {step}"
            plan, problem = self.plan(case, words)
            self._kept(plan, problem, case, words)
            self._bounds(plan, problem, words)
        middle = _middle(spec)
        for fallback in (None, _declared(spec)):
            words = f"every second problem without a way, fallback {'declared' if fallback is not None else 'implied'}"
            case = draw_case(spec, 4, self.seed + 20)
            wall = case.start[:, 0] + torch.tensor([-1e6, 1e6, -1e6, 1e6])
            plan, problem = self.plan(replace(case, wall=wall, fallback=fallback), words)
            expected = (middle if fallback is None else fallback).expand_as(plan.actions)
            self.keep("says where no plan is feasible, and where one is", plan.feasible.tolist() == [False, True] * 2,
                      words, f"feasible {plan.feasible.tolist()}", "judge every problem on its own")
            self.keep("takes the fallback where no plan is feasible",
                      torch.equal(plan.actions[::2], expected[::2].to(plan.actions)), words,
                      f"{plan.actions[0, 0].tolist()} instead of {expected[0, 0].tolist()}", "use task.fallback")
            self._kept(plan, problem, case, words)

    def _kept(self, plan: Plan, problem: Problem, case: Case, words: str) -> None:
        imagined = problem.model.imagine(problem.belief, plan.actions[:, None])
        margins = [rail.margin(imagined, plan.actions[:, None]).amax((1, 2)) for rail in problem.task.guardrails]
        worst = torch.stack(margins).amax(0)
        self.keep("calls feasible only what keeps every guardrail", not bool((plan.feasible & ~(worst <= 0)).any()),
                  words, f"a margin of {float(worst[plan.feasible].max()) if bool(plan.feasible.any()) else 0:.3g}",
                  "check what is returned, also when it is a mean of what was checked")

    # Limits ------------------------------------------------------------------------------------------------------

    def limits(self, spec: ActionSpec) -> None:
        for calls in (7, 60, 500, 4000):
            case = replace(_walled(draw_case(spec, 2, self.seed + 30), 1.0), budget=Budget(calls=calls), horizon=3)
            problem, words = self.make(case), f"{calls} calls"
            try:
                plan = self.planner.plan(problem)
            except PlanningError as error:
                self.keep("says what budget is too small", "calls" in str(error), words, str(error), "name the least")
                continue
            spent = max(int(plan.calls.max()), getattr(problem.model, "asked", 0))
            self.keep("spends no more calls than the budget has", spent <= calls, words, f"{spent}",
                      "count every imagined step, the fallback's too")
            self.keep("counts its calls", int(plan.calls.min()) > 0, words, f"{plan.calls.tolist()}", "fill Plan.calls")
        for trusted in (1, 2):
            words = f"{trusted} trusted steps"
            case = replace(draw_case(spec, 2, self.seed + 31), horizon=9, trusted=trusted)
            plan, problem = self.plan(case, words)
            longest = max(plan.actions.shape[1], getattr(problem.model, "longest", 0))
            self.keep("looks no farther than is trusted", longest <= trusted, words, f"{longest} steps",
                      "use problem.horizon(…)")
        self._seconds(spec)

    def _seconds(self, spec: ActionSpec) -> None:
        patience, seconds = 0.05, 0.15
        case = replace(draw_case(spec, 1, self.seed + 32), patience=patience, budget=Budget(seconds=seconds), horizon=3)
        started = time.perf_counter()
        self.plan(case, "a slow model")
        took = time.perf_counter() - started
        self.keep("ends in time", took <= seconds + self.passes * patience + 0.5, "a slow model",
                  f"{took:.2f} s of {seconds}", "start no round that will not fit")

    # Terms and chance --------------------------------------------------------------------------------------------

    def terms(self, spec: ActionSpec) -> None:
        case = replace(draw_case(spec, 3, self.seed + 50), horizon=4)
        weighs_every_term(self.planner.plan, self.keep, self.make(case))
        takes_chance_as_told(self.planner.plan, self.keep, case, self.make)

    # Odd inputs --------------------------------------------------------------------------------------------------

    def odd_inputs(self, spec: ActionSpec) -> None:
        case = draw_case(spec, 3, self.seed + 40)
        self._proposal(case)
        self._warm(case)
        self._exogenous(case)
        self._modes(case)
        if spec.kind != "discrete":
            self._broken_models(case)

    def _proposal(self, case: Case) -> None:
        if case.action.kind == "discrete":
            proposal = torch.zeros(3, 6, 1, dtype=torch.int64)
        else:
            proposal = torch.full((3, 6, case.action.size), 1e9)
        plan, problem = self.plan(replace(case, proposal=proposal), "a proposal")
        self._bounds(plan, problem, "a proposal")

    def _warm(self, case: Case) -> None:
        plan, _ = self.plan(case, "first decision")
        rows = torch.tensor([2, 0])
        later = replace(case, decision=case.decision + 1)
        go_on, _ = self.plan(later.rows(rows), "a warm start of some rows", warm=rows_of(plan.warm, rows))
        whole, _ = self.plan(later, "a warm start", warm=plan.warm)
        self._same(go_on, whole, rows, "a warm start of some rows")
        self.plan(later.rows(torch.tensor([0])), "a warm start of another batch size", warm=plan.warm)

    def _exogenous(self, case: Case) -> None:
        inputs = torch.full((3, 64, case.start.shape[1]), 0.25)
        problem = self.make(replace(case, exogenous=inputs, horizon=4))
        try:
            self.planner.plan(problem)
        except PlanningError:
            return
        informed = getattr(problem.model, "informed", True)
        self.keep("hands exogenous inputs to the model", informed, "exogenous inputs", "a call without them",
                  "pass problem.exogenous to imagine, or refuse it with a PlanningError")

    def _modes(self, case: Case) -> None:
        problem = self.make(case)
        before = [x.clone() for x in _tensors(problem)]
        plan = self.planner.plan(problem)
        after = _tensors(problem)
        same = len(before) == len(after) and all(torch.equal(a, b) for a, b in zip(before, after, strict=False))
        self.keep("leaves the problem as it was", same, "once", "tensors written to", "write nothing in place")
        with torch.inference_mode():
            inside, _ = self.plan(case, "in inference mode")
        self.keep("plans the same in inference mode", torch.equal(plan.actions, inside.actions), "in inference mode",
                  "another plan", "enable gradients yourself where you need them")
        self.keep("returns tensors without a graph", not plan.actions.requires_grad, "once", "one with", "detach it")

    def _broken_models(self, case: Case) -> None:
        bounds = (case.action.low[0] + case.action.high[0]) / 2
        plan, problem = self.plan(case, "a model that breaks down", model=_Breaking(case.action, bounds))
        imagined = problem.model.imagine(problem.belief, plan.actions[:, None]).states
        fine = bool(imagined.isfinite().flatten(1).all(1)[plan.feasible].all())
        self.keep("never chooses a future that is not a number", fine, "a model that breaks down",
                  "one called feasible", "treat an energy that is not finite as infeasible")
        plan, problem = self.plan(case, "a model that always breaks down", model=_Breaking(case.action, -torch.inf))
        self.keep("knows that nothing is feasible when all futures are not numbers", not bool(plan.feasible.any()),
                  "a model that always breaks down", "one called feasible", "treat it as infeasible")
        self._bounds(plan, problem, "a model that always breaks down")


class _Breaking(Drift):
    """Not a number once the first entry of an action exceeds `limit`."""

    def __init__(self, action: ActionSpec, limit: float) -> None:
        super().__init__(action)
        self.limit = limit

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        imagined = super().imagine(belief, actions, exogenous, u)
        bad = (actions[..., 0] > self.limit).cumsum(2)[..., None] > 0
        after = torch.where(bad, torch.nan, imagined.states[:, :, 1:])
        return Imagined(torch.cat([imagined.states[:, :, :1], after], 2))


def _walled(case: Case, reserve: float) -> Case:
    """A wall `reserve` ahead of each start."""
    return replace(case, wall=case.start[:, 0] + reserve)


def _middle(spec: ActionSpec) -> Tensor:
    if spec.kind == "discrete":
        return torch.zeros(1, dtype=torch.int64)
    middle = torch.tensor(spec.high) / 2 + torch.tensor(spec.low) / 2
    return torch.where(torch.tensor([i in spec.whole for i in range(spec.size)]), middle.round(), middle)


def _declared(spec: ActionSpec) -> Tensor:
    if spec.kind == "discrete":
        return torch.tensor([spec.choices - 1])
    share = torch.tensor(spec.low) * 0.75 + torch.tensor(spec.high) * 0.25
    return torch.where(torch.tensor([i in spec.whole for i in range(spec.size)]), share.round(), share)


def _tensors(value: Any) -> list[Tensor]:
    """Every tensor of a problem, its model's and its guardrails' too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, WorldModel):
        return [*value.parameters(), *value.buffers(), *(x for x in vars(value).values() if isinstance(x, Tensor))]
    if isinstance(value, (tuple, list)):
        return [x for inner in value for x in _tensors(inner)]
    if isinstance(value, Mapping):
        return _tensors(list(value.values()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [x for f in dataclasses.fields(value) for x in _tensors(getattr(value, f.name))]
    return []
