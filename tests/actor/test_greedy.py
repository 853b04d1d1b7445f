"""Greedy descent: the best of a few constant actions, within limits, or the fallback."""

from __future__ import annotations

import pytest
import torch
from problems import Limit, choose, reach

from steersman.actor import Greedy
from steersman.actor.ground.primitives import rays
from steersman.core import Budget, ConfigError


def test_it_takes_the_ray_that_a_loop_finds_best() -> None:
    start, goal = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([[3.0, -2.0]])
    problem = reach(start, goal)
    plan = Greedy(Greedy.Config(directions=12, ahead=2, execute=2)).plan(problem)
    fan = rays(problem.action, 12)
    for b in range(5):
        energies = [sum(float((start[b] + (t + 1) * u - goal[0]).square().mean()) for t in range(2)) for u in fan]
        assert torch.equal(plan.actions[b], fan[min(range(12), key=energies.__getitem__)].expand(2, -1))
    assert plan.feasible.all()
    assert plan.calls.tolist() == [24] * 5


def test_it_never_leaves_the_limits_and_says_when_it_cannot_keep_them() -> None:
    start = [[0.0, 0.0], [0.9, 0.0], [5.0, 0.0]]
    fallback = torch.tensor([-0.5, 0.0])
    plan = Greedy().plan(reach(start, [[9.0, 0.0]], guardrails=[Limit(below=1.0)], fallback=fallback))
    after = torch.tensor(start) + plan.action
    assert plan.feasible.tolist() == [True, True, False]
    assert (after[:2, 0] <= 1.0).all()
    assert plan.action[0, 0] > 0.9
    assert torch.equal(plan.action[2], fallback)
    assert "INFEASIBLE" in plan.reason[2]
    assert plan.vetoed["limit"][2] == 32


def test_choices_are_all_tried_and_a_budget_is_kept() -> None:
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    plan = Greedy().plan(choose([[0.0, 0.0]], [[0.0, 5.0]], table))
    assert plan.action.tolist() == [[2]]
    plan = Greedy().plan(choose([[0.0, 0.0]], [[0.0, 5.0]], table, budget=Budget(calls=2)))
    assert plan.action.tolist() != [[2]]
    assert int(plan.calls) == 2


def test_acting_longer_than_it_looks_is_refused() -> None:
    with pytest.raises(ConfigError, match="look at least as far"):
        Greedy.Config(ahead=1, execute=2)
