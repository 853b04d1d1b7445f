"""The public check of planners: ours keep every promise, and each broken promise is found and named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import steersman
from steersman.actor import (
    CEM,
    ICEM,
    MPPI,
    AugmentedLagrangian,
    Barrier,
    Beam,
    BreadthFirst,
    DynamicProgramming,
    Gradient,
    Greedy,
    Newton,
    PredictiveSampling,
    Search,
)
from steersman.core import Budget, Plan, Planner, PlanningError, Risk
from steersman.core.errors import PromiseError

SMALL = {"samples": 16, "iterations": 3, "horizon": 4}
OURS = {
    "cem": (CEM.Config(**SMALL, elites=4), True),
    "icem": (ICEM.Config(**SMALL, elites=4), True),
    "mppi, early stop": (MPPI.Config(**(SMALL | {"iterations": 5}), tolerance=0.01), True),
    "predictive sampling": (PredictiveSampling.Config(**SMALL), True),
    "gradient": (Gradient.Config(restarts=2, steps=5, horizon=4), True),
    "augmented lagrangian": (AugmentedLagrangian.Config(restarts=2, outer=2, inner=3, horizon=4, fan=8), False),
    "newton": (Newton.Config(iterations=2, samples=8, horizon=4), True),
    "beam": (Beam.Config(width=16, horizon=3), False),
    "dynamic programming": (DynamicProgramming.Config(horizon=3, states=64), False),
    "search": (Search.Config(nodes=16, directions=6, look=6, expand=8), False),
    "breadth-first": (BreadthFirst.Config(layers=3, nodes=64), False),
    "greedy": (Greedy.Config(directions=8, ahead=2), False),
    "barrier": (Barrier.Config(planner=ICEM.Config(**SMALL, elites=4), fan=32), True),
}


@pytest.mark.parametrize("name", OURS)
def test_our_planners_keep_every_promise(name):
    config, draws = OURS[name]
    kept = steersman.check_planner(config.build(), draws=draws)
    assert "keeps actions within bounds" in kept
    assert "plans for a problem alone as beside others" in kept
    assert len(kept) >= 21


class Altered(Planner):
    """A good planner whose plans are tampered with."""

    def __init__(self):
        self.inner, self.before = ICEM.Config(**SMALL, elites=4).build(), []

    def plan(self, problem):
        return self.altered(self.inner.plan(problem), problem)

    def altered(self, plan: Plan, problem) -> Plan:
        return plan


class Beyond(Altered):
    """Rounds bounds outwards."""

    def altered(self, plan, problem):
        if problem.action.kind == "discrete":
            return plan
        return replace(plan, actions=plan.actions.nextafter(torch.tensor(torch.inf)))


class Crowd(Altered):
    """Looks at the whole batch."""

    def altered(self, plan, problem):
        if problem.action.kind == "discrete" or problem.task.guardrails:
            return plan
        return replace(plan, actions=plan.actions[:1].expand_as(plan.actions))


class Global(Altered):
    """Draws from the global generator."""

    def altered(self, plan, problem):
        torch.rand(1)
        return plan


class Bold(Altered):
    """Calls everything feasible."""

    def altered(self, plan, problem):
        return replace(plan, feasible=torch.ones_like(plan.feasible))


class Stubborn(Altered):
    """Ignores the declared fallback."""

    def plan(self, problem):
        return self.inner.plan(replace(problem, task=replace(problem.task, fallback=None)))


class Spendthrift(Altered):
    """Ignores the budget."""

    def plan(self, problem):
        return self.inner.plan(replace(problem, task=replace(problem.task, budget=Budget())))


class Farsighted(Altered):
    def plan(self, problem):
        return self.inner.plan(replace(problem, task=replace(problem.task, trusted=None)))


class Deaf(Altered):
    def plan(self, problem):
        return self.inner.plan(replace(problem, exogenous=None))


class Scribbling(Altered):
    def altered(self, plan, problem):
        problem.belief.state.add_(1)
        return plan


class Forgetful(Altered):
    """Breaks when a warm start is for another number of problems."""

    def plan(self, problem):
        if problem.warm is not None:
            assert len(problem.warm.mean) == len(problem)
        return self.inner.plan(problem)


class Sleepless(Altered):
    """Knows no time."""

    def plan(self, problem):
        for _ in range(8 if problem.task.budget.seconds else 0):
            self.inner.plan(replace(problem, task=replace(problem.task, budget=Budget())))
        return self.inner.plan(problem)


class Single(Altered):
    """Hears of the goal and of nothing else."""

    def plan(self, problem):
        known = {name: w for name, w in problem.task.weights.items() if name == "goal"}
        return self.inner.plan(replace(problem, task=replace(problem.task, weights=known)))


class Thoughtless(Altered):
    """Weighs what the task names, and no intrinsic cost beside it."""

    def plan(self, problem):
        silenced = {cost.name: 0.0 for cost in problem.costs if cost.intrinsic}
        return self.inner.plan(replace(problem, task=replace(
            problem.task, weights={**silenced, **problem.task.weights})))


class Unweighted(Altered):
    """Weighs a term and says what it was before it was weighed."""

    def altered(self, plan, problem):
        weights = problem.task.weights
        return replace(plan, energy={name: part / weights[name] for name, part in plan.energy.items()})


class Hopeful(Altered):
    """Plans for the future that the model expects, and calls feasible what one in two scenarios breaks."""

    def plan(self, problem):
        return self.inner.plan(replace(problem, task=replace(problem.task, risk=Risk())))


class Silent(Altered):
    def altered(self, plan, problem):
        return replace(plan, reason=("",) * len(problem))


@pytest.mark.parametrize(("broken", "words"), [
    (Beyond, "keeps actions within bounds"), (Crowd, "alone as beside others"), (Global, "global random generator"),
    (Bold, "feasible"), (Stubborn, "takes the fallback"), (Spendthrift, "no more calls"),
    (Farsighted, "no farther than is trusted"), (Deaf, "exogenous"), (Scribbling, "answers|as it was|alone"),
    (Forgetful, "another batch size"), (Sleepless, "ends in time"), (Silent, "reasons"),
    (Single, "every term|every weighted term"), (Unweighted, "what every weighted term is"),
    (Thoughtless, "weighs intrinsic costs"), (Hopeful, "in every scenario"),
])
def test_each_broken_promise_is_named(broken, words):
    with pytest.raises(PromiseError, match=words):
        steersman.check_planner(broken())


def test_a_planner_that_draws_the_same_for_every_seed_is_found_if_it_should_not():
    class Fixed(Altered):
        def plan(self, problem):
            return self.inner.plan(replace(problem, seeds=torch.zeros_like(problem.seeds)))

    with pytest.raises(PromiseError, match="another seed"):
        steersman.check_planner(Fixed(), draws=True)


def test_a_planner_of_nothing_is_no_planner():
    class Nothing(Planner):
        def plan(self, problem):
            raise PlanningError("something else", "this", "no")

    with pytest.raises(PlanningError, match="amounts, whole numbers or choices"):
        steersman.check_planner(Nothing())
