"""Whether imagination still comes nearer to the goal, said in a plan's reason where it does not.

Looks at plans from outside, so that every planner is covered, other people's too. Knows goals by their costs only.
Shapes: B problems, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from steersman.core import (
    CallableGoal,
    ColumnGoal,
    Cost,
    Goal,
    Imagined,
    Latent,
    LatentGoal,
    Plan,
    Planner,
    Problem,
    Task,
)
from steersman.cost import GoalCost, Sealed, TemporalDistance

SAID = "no imagined way came nearer to the goal"
"""Words by which such decisions are known and counted."""
_EVERY = 4  # decisions: a plan looks farther ahead than that
_SHARE = 0.02  # of the goal's energy: what is less is no nearer
_LEAST, _BEYOND = 30, 120  # steps of patience; for planners that know more than the plan that they show
_REACHED = 0.01  # squared error of a column, in its scale: a tenth of it
_STEPS = 4.0  # squared length of two steps, in that of one


class Nearing(Planner):
    """The planner of an agent, whose plans say when an episode comes no nearer to its goal, not even in imagination:

        least_t = least goal energy of the states so far, and of the imagined states of the plans so far
        said    where least has not fallen by 2% for max(30, 2 H) steps, and the goal is not reached

    The energy is that of the goal, and of a fitted temporal distance, as the task weighs them. One plan that comes no
    nearer says nothing: a swing-up first goes away from its goal, but each swing comes nearer than the last. Planners
    that search more than the plan that they show (graphs) are given 120 steps. Columns are reached within a tenth of
    their scale, latents within the length of two imagined steps. For an energy that is code nobody knows what reached
    would be, and nothing is said. Every fourth decision is looked at; between them the last finding stands. A new goal,
    a new episode or other problems begin anew.
    """

    def __init__(self) -> None:
        self._planner: Planner | None = None
        self._near: _Near | None = None

    def of(self, planner: Planner) -> Nearing:
        """Plan with this one."""
        if planner is not self._planner:
            self._planner, self._near = planner, None
        return self

    def inside(self) -> tuple[Planner, ...]:
        return () if self._planner is None else (self._planner,)

    def plan(self, problem: Problem) -> Plan:
        assert self._planner is not None
        plan = self._planner.plan(problem)
        near, decision = self._near, int(problem.decision[0])
        if near is None or not near.goes_on(problem, decision):
            near = self._near = _Near(problem)
        near.decision = decision
        near.elapsed += min(self._planner.commits(problem.task), plan.actions.shape[1])
        if decision % _EVERY == 0 and not isinstance(problem.task.goal, CallableGoal):
            near.look(plan, problem, self._planner)
        if not any(near.stuck):
            return plan
        words = f"for {near.patience} steps or more {SAID}: {advice(plan.actions.shape[1], problem.task.trusted)}"
        return replace(plan, reason=tuple(f"{reason}; {words}" if stuck and ok else reason for reason, stuck, ok in
                                          zip(plan.reason, near.stuck, plan.feasible.tolist(), strict=True)))


class _Near:
    """What is known of B episodes with one goal: see `Nearing`."""

    def __init__(self, problem: Problem) -> None:
        self.goal, self.batch, self.decision, self.elapsed = problem.task.goal, len(problem), -1, 0
        self.least, self.reached = torch.full((self.batch,), torch.inf), torch.zeros(self.batch)
        self.stale, self.stuck, self.patience = torch.zeros(self.batch), [False] * self.batch, _LEAST

    def goes_on(self, problem: Problem, decision: int) -> bool:
        return _same(problem.task.goal, self.goal) and len(problem) == self.batch and decision == self.decision + 1

    @torch.no_grad()
    def look(self, plan: Plan, problem: Problem, planner: Planner) -> None:
        found = _energy(plan.imagined, plan.actions[:, None], problem)
        if found is None or not plan.reason:
            return
        energy, reached = found
        self.reached = torch.maximum(self.reached, reached)
        nearer = energy < (1 - _SHARE) * self.least
        self.least = torch.where(nearer, energy, self.least)
        self.stale = torch.where(nearer, 0, self.stale + self.elapsed)
        self.elapsed, self.patience = 0, max(_LEAST, 2 * plan.actions.shape[1])
        if bool((self.stale >= self.patience).any()) and (planner.horizon is None or planner.remembered()):
            self.patience = max(self.patience, _BEYOND)
        self.stuck = ((self.stale >= self.patience) & (self.least > self.reached)).tolist()


def _same(a: Goal, b: Goal) -> bool:
    """Whether two goals ask for the same: who is served gives his anew with every request."""
    if isinstance(a, ColumnGoal) and isinstance(b, ColumnGoal) and a is not b:
        pairs = [(x, b.targets[name]) for name, x in a.targets.items()] if a.targets.keys() == b.targets.keys() else []
        return bool(pairs) and a.scale == b.scale and all(
            torch.equal(torch.as_tensor(x).double(), torch.as_tensor(y).double()) for x, y in pairs)
    if isinstance(a, LatentGoal) and isinstance(b, LatentGoal) and a is not b:
        return torch.equal(a.latent.state, b.latent.state)
    return a is b


def notice(reason: str) -> str:
    """The sentence in a plan's reason that says so; "" where there is none."""
    before, said, after = reason.partition(SAID)
    return before.rpartition("; ")[2] + said + after if said else ""


def advice(steps: int, trusted: int | None) -> str:
    """What to try where plans of so many steps come no nearer: what has been seen to help (MountainCarContinuous)."""
    fitted = "weigh a temporal distance that was fitted to the log (steersman fit RUN --distance)"
    if trusted is not None and trusted <= steps:
        return f"it may lie beyond the {trusted} steps that are trusted; {fitted}"
    most = "" if trusted is None else f", up to the {trusted} that are trusted"
    return f"it may lie beyond {steps} steps; try a horizon several times as long{most}, or {fitted}"


def _energy(imagined: Imagined, actions: Tensor, problem: Problem) -> tuple[Tensor, Tensor] | None:
    """(B,) least weighed energy of the start and of the plan's states, and (B,) that from which on the goal counts as
    reached; None: the task weighs nothing that tells."""
    goal, states = problem.task.goal, imagined.states
    every = replace(imagined, states=torch.cat([states[:, :, :1], states], 2))
    step, here = replace(imagined, states=states[:, :, :2]), LatentGoal(Latent(states[:, 0, 0]))
    weights = problem.weights
    totals: list[Tensor] = []
    enough = torch.zeros(len(problem))
    for cost in problem.costs:
        weight, energy = weights.get(cost.name, 0.0), _distance(cost)
        if not weight or energy is None:
            continue
        totals.append(weight * energy(every, actions, problem.task)[:, 0].amin(1))
        if isinstance(goal, ColumnGoal) and cost.name == GoalCost.name:
            enough = enough + weight * _REACHED * len(goal.targets)
        else:
            enough = enough + weight * _STEPS * energy(step, actions, replace(problem.task, goal=here))[:, 0, 0].cpu()
    return (torch.stack(totals).sum(0).cpu(), enough) if totals else None


def _distance(cost: Cost) -> Callable[[Imagined, Tensor, Task], Tensor] | None:
    """The energy of a cost that says how far the goal is, at every step, past whoever watches what planners ask."""
    inner = cost.inner if isinstance(cost, Sealed) else cost
    if isinstance(inner, GoalCost):
        return GoalCost(inner.readout, inner.scale, "steps", inner.distance).energy
    return partial(TemporalDistance.energy, inner) if isinstance(inner, TemporalDistance) else None
