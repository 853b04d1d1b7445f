"""Who says that a limit broke: guardrails over what was measured, or the world in its own words."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import Imagined, Readout, UsageError
from steersman.cost import Apart, Box, HalfSpace, OnColumns
from steersman.evaluation.measured_limits import over_columns, told
from steersman.worlds import GymnasiumWorld, Hazards, TwoRooms


@pytest.mark.parametrize(("info", "margin"), [
    ({}, None), ({"position": 3}, None), ({"bad": True}, 1.0), ({"bad": False}, -1.0), ({"cost": 0.5}, 1.0),
    ({"cost": 0.0}, -1.0), ({"bad": False, "cost": 1.0}, 1.0), ({"bad": False, "clearance": 0.3}, -0.3),
    ({"bad": True, "clearance": -0.2}, 0.2), ({"bad": True, "clearance": 0.2}, 1.0),
    ({"bad": False, "clearance": -0.2}, -1.0), ({"cost": 1.0, "clearance": math.nan}, 1.0),
])
def test_what_a_world_says_of_itself(info, margin):
    assert told(info) == margin


@pytest.mark.parametrize("make", [
    lambda: Hazards(look="picture"), lambda: TwoRooms(TwoRooms.Config(forbidden=(32.0, 32.0, 5.0))),
])
def test_worlds_of_pictures_say_what_is_bad_and_how_far_it_is(make):
    world = GymnasiumWorld(make())
    world.reset(3)
    first = told(world.info)
    assert first is not None
    assert first < 0
    said = []
    for number in range(60):
        step = world.step(torch.tensor([1.0, 0.3]) if number < 40 else torch.tensor([-1.0, 0.5]))
        said.append(told(world.info))
        if step.over:
            break
    assert len(set(said)) > 5


class Latent(Readout):
    columns = ("v", "x")

    def read(self, states, context=None):
        return states


def test_limits_read_what_was_measured_by_name_with_their_margins():
    names = ("x", "y", "v")
    shown = torch.tensor([[[[1.0, 5.0, 2.0], [1.0, 5.0, 2.0]]]])
    rails = (Box(Latent(), {"v": (-3.0, 1.5)}, margin={"v": 0.1}), HalfSpace(Latent(), {"x": 2.0}, 1.0),
             Apart(Latent(), [("x", "v")], body=3.0))
    found = [float(over_columns(rail, names).margin(Imagined(shown), torch.zeros(1, 1, 1, 1))) for rail in rails]
    assert found == pytest.approx([0.6, 1.0, 3 - 5**0.5])
    with pytest.raises(UsageError, match="a guardrail that reads the columns x, y, v; got code, which reads v, x"):
        over_columns(OnColumns(Latent(), lambda y: y["v"], name="code"), names)
    with pytest.raises(UsageError, match="columns of x"):
        over_columns(rails[0], ("x",))
