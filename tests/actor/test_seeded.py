"""A policy prior: followed as by a loop, plans with few samples that are better than without, what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import Limit, reach

from steersman.actor import CEM, ICEM, MPPI, Seeded
from steersman.actor.policy.seeded import followed
from steersman.core import Budget, Planner, PlanningError, Policy


class Straight(Policy):
    """Half of what is left, within reach of one step."""

    def propose(self, belief, task):
        return (0.5 * (task.goal.latent.state - belief.state)).clamp(-1, 1)[:, None]


def _problem(**more):
    start = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, -5.0, 2.0, 1.0], [-3.0, 4.0, -4.0, 3.0]])
    return reach(start, torch.tensor([[4.0, -3.0, 5.0, 2.0]]), **more)


def _energy(plan):
    return sum(part.sum(1) for part in plan.energy.values())


def test_the_policy_is_followed_as_by_a_loop() -> None:
    problem = _problem()
    found = followed(Straight(), problem, 5)[0]
    state = problem.belief.state
    for t in range(5):
        action = (0.5 * (problem.task.goal.latent.state - state)).clamp(-1, 1)
        assert torch.allclose(found[:, t], action)
        state = state + action


@pytest.mark.parametrize("inner", [
    CEM.Config(samples=8, iterations=2, elites=2, horizon=10),
    ICEM.Config(samples=8, iterations=2, elites=2, horizon=10),
    MPPI.Config(samples=8, iterations=2, horizon=10, answer="best"),
], ids=["cem", "icem", "mppi"])
def test_plans_of_few_samples_are_better_with_it(inner) -> None:
    problem = _problem()
    plain, seeded = inner.build().plan(problem), Seeded(inner.build(), Straight()).plan(problem)
    assert bool((_energy(seeded) < 0.5 * _energy(plain)).all())
    assert seeded.calls.tolist() == [calls + 10 for calls in plain.calls.tolist()]


def test_it_keeps_a_budget_and_guardrails() -> None:
    planner: Planner = Seeded(CEM.Config(samples=50, iterations=2, elites=4, horizon=10).build(), Straight())
    plan = planner.plan(_problem(budget=Budget(calls=200), guardrails=(Limit(0, 3.0),)))
    assert int(plan.calls.max()) <= 200
    assert bool((plan.imagined.states[plan.feasible][:, 0, 1:, 0] <= 3.0).all())


def test_what_cannot_be_followed_is_said() -> None:
    planner = Seeded(CEM.Config(horizon=10).build(), Straight())
    with pytest.raises(PlanningError, match="more than the 10 predictor calls"):
        planner.plan(_problem(budget=Budget(calls=10)))

    class Sightless(CEM):
        def __init__(self):
            super().__init__()
            self.horizon = None

    problem = _problem()
    with pytest.raises(PlanningError, match="a horizon to follow the policy for"):
        Seeded(Sightless(), Straight()).plan(replace(problem, task=replace(problem.task, horizon=None)))
