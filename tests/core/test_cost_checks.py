"""The public checks of costs and guardrails: ours pass, and every broken promise is found and named."""

from __future__ import annotations

import pickle

import pytest
import torch

import steersman
from steersman.core import ActionSpec, ColumnGoal, Cost, Guardrail, PromiseError, Readout, Task
from steersman.cost import (
    Box,
    DisagreementCost,
    EffortCost,
    GoalCost,
    HalfSpace,
    OnColumns,
    Region,
    SmoothnessCost,
)

BOX, CHOICE = ActionSpec("continuous", (-1.0, 0.0), (1.0, 3.0)), ActionSpec("discrete", choices=4)


class First(Readout):
    columns = ("x", "y")

    def read(self, states, context=None):
        return states[..., :2] * 4 + 10


@pytest.mark.parametrize("action", [BOX, CHOICE])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_our_costs_keep_every_promise(action, shape):
    costs = [GoalCost(distance=d, over=o) for d in ("squared", "absolute", "cosine") for o in ("steps", "last")]
    for cost in [*costs, EffortCost(action), SmoothnessCost(action), DisagreementCost()]:
        kept = steersman.check_cost(cost, action, shape)
        assert "judges a problem alone as in a batch" in kept
        assert len(kept) >= 10


def test_a_goal_on_columns_is_checked_with_its_task():
    task = Task(ColumnGoal({"x": 1.0}))
    assert "has finite gradients" in steersman.check_cost(GoalCost(First()), BOX, (5,), task=task, differentiable=True)


MASK = torch.zeros(3, 20, 24, dtype=torch.bool)
MASK[0, 5:9, 5:9] = MASK[1, 10:14, 3:8] = MASK[2, 9:11, 9:11] = True


@pytest.mark.parametrize(
    "rail",
    [
        Box(First(), {"x": (-1.0, 12.0)}, margin={"x": 0.1}),
        HalfSpace(First(), {"x": 1.0, "y": 1.0}, 20.0),
        OnColumns(First(), lambda c: c["x"] * c["y"]),
        Region(First(), MASK, margin=1.0),
        Region(First(), MASK[0]),
    ],
)
def test_our_guardrails_keep_every_promise(rail):
    kept = steersman.check_guardrail(rail, BOX, (5,), differentiable=True)
    assert "never calls a future safe that is not a number" in kept
    assert "gives a state the same standing in every arrangement" in kept


class Good(Cost):
    name = "good"

    def __init__(self):
        self.weight = torch.ones(5)

    def energy(self, imagined, actions, task):
        return (imagined.states[:, :, 1:] * self.weight).square().sum(-1)


def broken(**methods):
    return type("Broken", (Good,), methods)()


def in_place(self, imagined, actions, task):
    return imagined.states[:, :, 1:].mul_(2).square().sum(-1)


def into_actions(self, imagined, actions, task):
    actions[..., 0] = 0
    return Good.energy(self, imagined, actions, task)


def learns(self, imagined, actions, task):
    self.weight = self.weight + 1e-5
    return Good.energy(self, imagined, actions, task)


def counts(self, imagined, actions, task):
    self.count = getattr(self, "count", 0) + 1
    return Good.energy(self, imagined, actions, task) + self.count


@pytest.mark.parametrize(
    ("cost", "match"),
    [
        (broken(name=""), "has a name"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t).sum(2)), r"one energy per step.*got \(1, 1\)"),
        (broken(energy=lambda s, i, a, t: i.states.square().sum(-1)), "one energy per step"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t).double()), "states' type.*float64"),
        (broken(energy=lambda s, i, a, t: None), "one energy per step.*NoneType"),
        (broken(energy=lambda s, i, a, t: 1 / 0), "answers; got ZeroDivisionError.*case: 1 problems"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t).log()), "finite.*all states 0"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t).exp()), "finite.*far out"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t) + torch.rand(())), "global random generator"),
        (broken(energy=counts), "same answer again"),
        (broken(energy=in_place), "imagined future as it was"),
        (broken(energy=into_actions), "leaves the actions"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t) + 0 * torch.rand(())), "global random generator"),
        (broken(energy=learns), "own tensors"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t) + i.states.mean((0, 2, 3))[:, None]),
         "problem alone"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t) - Good.energy(s, i, a, t).mean((1, 2), True)),
         "candidate alone"),
        (broken(energy=lambda s, i, a, t: Good.energy(s, i, a, t).detach()), "differentiable"),
        (broken(energy=lambda s, i, a, t: (i.states[:, :, 1:] * 0).norm(dim=-1) + (i.states[:, :, 1:, 0] * 0).sqrt()),
         "finite gradients"),
    ],
)
def test_a_broken_promise_is_found_and_named(cost, match):
    with pytest.raises(PromiseError, match=match) as caught:
        steersman.check_cost(cost, BOX, (5,), differentiable=True)
    assert caught.value.case
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class Rail(Guardrail):
    name = "rail"

    def margin(self, imagined, actions):
        return self.standing(imagined.states[:, :, 1:])

    def standing(self, states, context=None):
        return states[..., 0]


def rail(**methods):
    return type("Broken", (Rail,), methods)()


@pytest.mark.parametrize(
    ("guardrail", "match"),
    [
        (rail(name=""), "has a name"),
        (rail(margin=lambda s, i, a: i.states[..., 0]), "one margin per step"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0].sqrt()), "a number for ordinary states"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0].nan_to_num()), "safe that is not a number"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0] - i.states[:, :, 1:, 0].mean(1, True)), "candidate alone"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0] + torch.arange(len(a))[:, None, None]), "taken with rows"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0], standing=lambda s, x, c=None: x[..., 0].sum(-1)),
         "one standing per state"),
        (rail(margin=lambda s, i, a: i.states[:, :, 1:, 0].detach()), "differentiable"),
    ],
)
def test_a_guardrail_that_breaks_a_promise_is_found(guardrail, match):
    with pytest.raises(PromiseError, match=match):
        steersman.check_guardrail(guardrail, BOX, (5,), differentiable=True)


def test_a_guardrail_on_actions_alone_need_not_read_states():
    only = rail(margin=lambda s, i, a: a[..., 0], standing=lambda s, x, c=None: None)
    assert "has a barrier per step" not in steersman.check_guardrail(only, BOX, (5,))
