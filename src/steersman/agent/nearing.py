"""Whether imagination still comes nearer to the goal, said in a plan's reason where it does not.

Looks at plans from outside, so that every planner is covered, other people's too. Knows goals by their costs only.
Shapes: B problems, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    TensorRecord,
)
from steersman.cost import GoalCost, Sealed, TemporalDistance

SAID = "no imagined way came nearer to the goal"
"""Words by which such decisions are known and counted."""
_EVERY = 4  # decisions: a plan looks farther ahead than that
_SHARE = 0.02  # of the goal's energy: what is less is no nearer
_LEAST, _BEYOND = 30, 120  # steps of patience; for planners that know more than the plan that they show
_REACHED = 0.01  # squared error of a column, in its scale: a tenth of it
_STEPS = 4.0  # squared length of two steps, in that of one


@dataclass(frozen=True)
class Near(TensorRecord):
    """How near B episodes have come to their goal; part of an agent's state.

        least_t = least goal energy of the states so far, and of the imagined states of the plans so far
        stuck   where least has not fallen by 2% for max(30, 2 H) steps, and the goal is not reached

    The energy is that of the goal, and of a fitted temporal distance, as the task weighs them. One plan that comes no
    nearer says nothing: a swing-up first goes away from its goal, but each swing comes nearer than the last. Planners
    that search more than the plan that they show (graphs) are given 120 steps. Columns are reached within a tenth of
    their scale, latents within the length of two imagined steps. For an energy that is code nobody knows what reached
    would be, and nothing is said. Every fourth decision is looked at; between them the last finding stands.

    least, reached  (B,) least energy, and that from which on the goal counts as reached
    stale, elapsed  (B,) steps without coming nearer, and those since the last look
    stuck           (B,) bool
    """

    least: Tensor
    reached: Tensor
    stale: Tensor
    elapsed: Tensor
    stuck: Tensor

    @classmethod
    def begin(cls, batch: int) -> Near:
        none = torch.zeros(batch)
        return cls(torch.full((batch,), torch.inf), none, none, none, torch.zeros(batch, dtype=torch.bool))


def looked(
    near: Near | None, plan: Plan, problem: Problem, planner: Planner, share: float = 1.0
) -> tuple[Plan, Near]:
    """The plan, whose reasons say where an episode comes no nearer to its goal, not even in imagination; and what is
    known after it. share: how much of the actions that a planner commits to is carried out before the next decision."""
    fresh = Near.begin(len(problem))
    near = fresh if near is None else fresh.where(problem.decision == 0, near)
    near = replace(near, elapsed=near.elapsed + share * min(planner.commits(problem.task), plan.actions.shape[1]))
    patience = max(_LEAST, 2 * plan.actions.shape[1])
    if planner.horizon is None or planner.remembered():
        patience = max(patience, _BEYOND)
    looking = problem.decision % _EVERY == 0
    if bool(looking.any()) and not isinstance(problem.task.goal, CallableGoal):
        near = _look(near, plan, problem, patience).where(looking, near)
    if not bool(near.stuck.any()):
        return plan, near
    words = f"for {patience} steps or more {SAID}: {advice(plan.actions.shape[1], problem.task.trusted)}"
    said = zip(plan.reason, near.stuck.tolist(), plan.feasible.tolist(), strict=True)
    return replace(plan, reason=tuple(f"{reason}; {words}" if stuck and ok else reason
                                      for reason, stuck, ok in said)), near


@torch.no_grad()
def _look(near: Near, plan: Plan, problem: Problem, patience: int) -> Near:
    found = _energy(plan.imagined, plan.actions[:, None], problem)
    if found is None:
        return near
    energy, enough = found
    reached = torch.maximum(near.reached, enough)
    nearer = energy < (1 - _SHARE) * near.least
    least = torch.where(nearer, energy, near.least)
    stale = torch.where(nearer, 0, near.stale + near.elapsed)
    return Near(least, reached, stale, torch.zeros_like(stale), (stale >= patience) & (least > reached))


def same_goal(a: Goal, b: Goal) -> bool:
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
