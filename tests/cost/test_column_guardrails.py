"""Guardrails given as any callable, as half-spaces and as boxes on decoded columns."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Apart, Box, HalfSpace, OnColumns


class Itself(Readout):
    """The state is the columns."""

    columns = ("x", "y")

    def read(self, states, context=None):
        return states


def future(seed=0):
    states = torch.randn(2, 3, 5, 2, generator=torch.Generator().manual_seed(seed))
    return Imagined(states), torch.zeros(2, 3, 4, 2)


def test_any_callable_on_columns_is_a_guardrail():
    imagined, actions = future()
    disk = OnColumns(Itself(), lambda c: 1.5 - c["x"].hypot(c["y"]), name="outside the disk")
    y = imagined.states[:, :, 1:]
    torch.testing.assert_close(disk.margin(imagined, actions), 1.5 - y.norm(dim=-1))
    assert disk.name == "outside the disk"
    def too_hot(c):
        return c["x"] - 3

    assert OnColumns(Itself(), too_hot).name == "too_hot"


def test_a_half_space_is_a_weighted_sum_below_its_limit():
    imagined, actions = future()
    rail = HalfSpace(Itself(), {"y": 2.0, "x": -1.0}, 0.5, scale=4.0, margin=0.1)
    x, y = imagined.states[:, :, 1:].unbind(-1)
    torch.testing.assert_close(rail.margin(imagined, actions), (2 * y - x - 0.5 + 0.1) / 4)
    assert rail.name == "2 y - x <= 0.5"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HalfSpace(Itself(), {"z": 1.0}, 0.0), "among x, y"),
        (lambda: HalfSpace(Itself(), {"x": 0.0}, 0.0), "not all 0"),
        (lambda: HalfSpace(Itself(), {"x": math.inf}, 0.0), "finite weights"),
        (lambda: HalfSpace(Itself(), {"x": 1.0}, math.nan), "finite weights"),
        (lambda: HalfSpace(Itself(), {"x": 1.0}, 0.0, scale=0.0), "scale > 0"),
        (lambda: OnColumns(Itself(), lambda c: c["z"]).margin(*future()), "a column of x, y"),
        (lambda: OnColumns(Itself(), lambda c: c["x"].sum()).margin(*future()), "to return"),
        (lambda: OnColumns(Itself(), lambda c: 1.0).margin(*future()), "got float"),
    ],
)
def test_guardrails_that_cannot_be_are_refused(make, match):
    with pytest.raises(PlanningError, match=match):
        make()


RAILS = [
    OnColumns(Itself(), lambda c: c["x"].clamp(max=5.0) + c["y"] * 0),
    HalfSpace(Itself(), {"x": 1.0, "y": 0.5}, 1.0),
    Box(Itself(), {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}),
]


@pytest.mark.parametrize("rail", RAILS)
def test_what_is_not_a_number_is_never_safe(rail):
    imagined, actions = future()
    imagined.states[0, 0, 2, 1] = math.nan
    assert not bool(rail.margin(imagined, actions)[0, 0, 1] <= 0)
    assert not bool(rail.standing(imagined.states)[0, 0, 2] <= 0)
    assert not bool(rail.barrier(imagined, actions, 0.5)[0, 0, 1] <= 0)
    assert not bool(rail.barrier(imagined, actions, 0.5)[0, 0, 2] <= 0)  # whence it came counts too


@pytest.mark.parametrize("make", [
    lambda m: OnColumns(Itself(), lambda c: c["x"] - 1, margin=m),
    lambda m: HalfSpace(Itself(), {"x": 1.0, "y": 0.5}, 1.0, margin=m),
    lambda m: Box(Itself(), {"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, margin={"x": m, "y": m}),
    lambda m: Apart(Itself(), [("x", "y")], body=0.5, margin=m),
])
def test_the_bare_limit_keeps_nothing_for_the_models_error(make):
    imagined, actions = future()
    kept = torch.tensor([0.1, 0.2, 0.3, 0.4])
    drawn_in, without = make(kept), make(0.0)
    bare = drawn_in.bare()
    assert torch.equal(bare.margin(imagined, actions), without.margin(imagined, actions))
    assert torch.equal(bare.standing(imagined.states), without.standing(imagined.states))
    assert bare.name == drawn_in.name
    drawn = drawn_in.margin(imagined, actions) - bare.margin(imagined, actions)
    torch.testing.assert_close(drawn, kept.expand(2, 3, 4))


@pytest.mark.parametrize("rail", RAILS)
def test_margins_can_be_descended(rail):
    imagined, actions = future()
    states = imagined.states.requires_grad_()
    rail.margin(Imagined(states), actions).clamp(min=0).square().sum().backward()
    assert bool(states.grad.isfinite().all())
    assert float(states.grad.abs().sum()) > 0


@pytest.mark.parametrize("rail", RAILS)
def test_a_barrier_permits_what_its_rate_permits(rail):
    imagined, actions = future(3)
    level, margin = rail.standing(imagined.states), rail.margin(imagined, actions)
    torch.testing.assert_close(level[:, :, 1:], margin)
    for alpha in (0.2, 1.0):
        allowed = rail.barrier(imagined, actions, alpha) <= 0
        for index in torch.cartesian_prod(*map(torch.arange, margin.shape)).tolist():
            b, k, t = index
            here, there = level[b, k, t], level[b, k, t + 1]
            keeps = there <= (1 - alpha) * here and margin[b, k, t] <= max(0.0, (1 - alpha) * float(here))
            assert bool(allowed[b, k, t]) == bool(keeps)
