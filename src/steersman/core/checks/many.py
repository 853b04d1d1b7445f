"""A planner tried on thousands of random cases: bounds that no action may leave, neighbours that must not matter.

`check_planner` asks a few pointed questions; this asks one question often. Shapes: B problems, A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from steersman.core.checks.drift import Case, Drift, allowed, draw_case
from steersman.core.errors import ActionError, PlanningError
from steersman.core.planner import Planner
from steersman.core.problem import Plan, Problem
from steersman.core.signature import ActionSpec


@dataclass(frozen=True)
class Tally:
    """What came of many cases; a case is one problem.

    cases      problems that were planned; refused: problems whose kind of action the planner refuses
    outside    batches in which an action, planned or only imagined, left its bounds
    dependent  problems whose plan was another one beside other neighbours
    broken     problems called feasible whose plan breaks its guardrail
    """

    cases: int = 0
    refused: int = 0
    outside: int = 0
    dependent: int = 0
    broken: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(self._row, other._row, strict=True)))

    @property
    def _row(self) -> tuple[int, ...]:
        return self.cases, self.refused, self.outside, self.dependent, self.broken


def try_batch(
    planner: Planner, seed: int, problem: Callable[[Case], Problem] | None = None, largest: int = 64
) -> Tally:
    """One random batch of 1 to `largest` cases: planned together, then in another order in pieces of other sizes.

    Drawn from `seed`: the kind and the bounds of the action, the horizon, a guardrail or none, a first or a later
    decision, the batch, and how it is taken apart.
    """
    rng, make = np.random.default_rng(seed), problem or Case.problem
    spec = draw_spec(rng)
    count = int(rng.integers(1, largest + 1))
    case = replace(draw_case(spec, count, int(rng.integers(2**31))), horizon=int(rng.integers(1, 6)))
    if rng.random() < 0.5:
        case = replace(case, wall=case.start[:, 0] + torch.from_numpy(rng.uniform(-0.5, 3, count)).float())
    try:
        first = planner.plan(whole := make(case))
    except (PlanningError, ActionError):
        return Tally(refused=count)
    plans, problems = [first], [whole]
    if later := bool(rng.random() < 0.3):
        case = replace(case, decision=case.decision + 1)
        problems.append(replace(make(case), warm=first.warm))
        plans.append(planner.plan(problems[-1]))
    order, dependent = torch.from_numpy(rng.permutation(count)), 0
    pieces = order.tensor_split(sorted(rng.integers(0, count + 1, min(count, 3)).tolist()))
    for rows in (piece for piece in pieces if len(piece)):
        problems.append(make(replace(case, decision=torch.zeros_like(case.decision)).rows(rows)))
        plans.append(planner.plan(problems[-1]))
        if later:
            problems.append(replace(make(case.rows(rows)), warm=plans[-1].warm))
            plans.append(planner.plan(problems[-1]))
        dependent += _unlike(plans[-1], plans[int(later)], rows)
    strays = [p.model.outside for p in problems if isinstance(p.model, Drift)]
    outside = sum(not allowed(plan.actions, spec) for plan in plans) + sum(strays)
    return Tally(count, 0, outside, dependent, sum(_broken(*pair) for pair in zip(plans, problems, strict=True)))


def draw_spec(rng: np.random.Generator) -> ActionSpec:
    """Amounts of any size with bounds of any magnitude, some of them whole numbers; or choices."""
    if rng.random() < 0.2:
        return ActionSpec("discrete", choices=int(rng.integers(1, 9)))
    low, high, whole = list[float](), list[float](), list[int]()
    for entry in range(int(rng.integers(1, 5))):
        kind = rng.integers(5)
        if kind == 0:  # of any magnitude, around zero
            reach = 10.0 ** rng.uniform(-30, 38)
            bounds = [-reach * rng.uniform(0.01, 1), reach]
        elif kind == 1:  # narrow, far from zero: a few float32 numbers
            middle = rng.normal() * 10.0 ** rng.uniform(-3, 6)
            bounds = [middle, middle + abs(middle) * 2.0 ** rng.uniform(-22, -1)]
        elif kind == 2:  # whole numbers
            bounds, whole = [rng.uniform(-9, 0), rng.uniform(1, 9)], [*whole, entry]
        elif kind == 3:  # one-sided
            bounds = sorted(10.0 ** rng.uniform(-6, 6, 2))
        else:
            bounds = [-1.0, 1.0]
        low.append(float(bounds[0]))
        high.append(float(max(bounds[1], np.nextafter(bounds[0], np.inf))))
    return ActionSpec("continuous", tuple(low), tuple(high), whole=tuple(whole))


def _unlike(some: Plan, together: Plan, rows: torch.Tensor) -> int:
    if some.actions.shape[1:] != together.actions.shape[1:]:
        return len(rows)
    apart = (some.actions != together.actions[rows]).flatten(1).any(1) | (some.feasible != together.feasible[rows])
    return int(apart.sum())


def _broken(plan: Plan, problem: Problem) -> int:
    actions = plan.actions[:, None]
    imagined = problem.model.imagine(problem.belief, actions)
    kept = torch.ones_like(plan.feasible)
    for rail in problem.task.guardrails:
        kept &= (rail.margin(imagined, actions) <= 0).flatten(1).all(1)
    return int((plan.feasible & ~kept).sum())
