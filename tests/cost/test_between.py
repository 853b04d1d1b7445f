"""What happens between two imagined moments: ways bend as their rates say, limits see it, NaN is a violation."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Apart, Between, Box

STEP = 0.5
ACTIONS = torch.zeros(1, 1, 1, 2)


class Columns(Readout):
    columns = ("x", "y", "vx", "vy")

    def read(self, states, context=None):
        return states


def thrown(start, velocity, acceleration, steps=1):
    """Moments of constant acceleration, exactly."""
    t = STEP * torch.arange(steps + 1)[:, None]
    start, velocity, acceleration = (torch.tensor(z) for z in (start, velocity, acceleration))
    place = start + t * velocity + t**2 / 2 * acceleration
    return Imagined(torch.cat([place, velocity + t * acceleration], 1)[None, None])


def bending(pieces=4):
    return Between({"x": "vx", "y": "vy"}, step=STEP, pieces=pieces)


def test_a_turn_within_a_step_is_seen():
    """Up at 1 m/s, braking at 4: it turns after .25 s at .125 m and is back after .5 s."""
    ball = thrown([0.0, 0.0], [0.0, 1.0], [0.0, -4.0])
    limits = {"y": (-math.inf, 0.1)}
    assert float(Box(Columns(), limits).margin(ball, ACTIONS)) == pytest.approx(-0.1)
    assert float(Box(Columns(), limits, between=bending()).margin(ball, ACTIONS)) == pytest.approx(0.025)
    near = [("x", "y")]
    ball.states[..., 1] -= 1.0  # a thing 1 m above where it starts
    assert float(Apart(Columns(), near, body=0.9).margin(ball, ACTIONS)) == pytest.approx(-0.1)
    assert float(Apart(Columns(), near, body=0.9, between=bending()).margin(ball, ACTIONS)) == pytest.approx(0.025)


@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
def test_pieces_leave_their_square_of_the_bend(pieces):
    way = thrown([-0.3, 0.2], [1.0, -0.5], [0.4, 2.0])
    fine = float(Apart(Columns(), [("x", "y")], between=bending(500)).margin(way, ACTIONS))
    seen = float(Apart(Columns(), [("x", "y")], between=bending(pieces)).margin(way, ACTIONS))
    bend = STEP**2 / 8 * math.hypot(0.4, 2.0)
    assert abs(seen - fine) <= bend / pieces**2 + 1e-6


def test_columns_without_a_rate_move_straight():
    way = thrown([-0.3, 0.2], [1.0, -0.5], [0.4, 2.0], steps=3)
    actions = torch.zeros(1, 1, 3, 2)
    straight = Apart(Columns(), [("x", "y")]).margin(way, actions)
    none = Apart(Columns(), [("x", "y")], between=Between({}, step=STEP)).margin(way, actions)
    torch.testing.assert_close(none, straight)
    lost = Imagined(way.states.clone())
    lost.states[..., 2] = math.nan  # an unused rate harms nobody
    torch.testing.assert_close(
        Box(Columns(), {"y": (-1.0, 1.0)}, between=bending()).margin(lost, actions),
        Box(Columns(), {"y": (-1.0, 1.0)}, between=bending()).margin(way, actions))


def test_a_rate_that_is_not_a_number_is_a_violation():
    way = thrown([-0.3, 0.2], [1.0, -0.5], [0.4, 2.0])
    way.states[0, 0, 1, 3] = math.nan
    for rail in (Box(Columns(), {"y": (-9.0, 9.0)}, between=bending()),
                 Apart(Columns(), [("x", "y")], between=bending())):
        assert not bool(rail.margin(way, ACTIONS) <= 0)


def test_what_cannot_be_is_refused():
    with pytest.raises(PlanningError, match="above 0"):
        Between({}, step=0.0)
    with pytest.raises(PlanningError, match="speed"):
        Apart(Columns(), [("x", "y")], between=Between({"x": "speed"}, step=1.0))


@pytest.mark.parametrize("rail", [
    Box(Columns(), {"y": (-math.inf, 0.1)}, between=bending()),
    Apart(Columns(), [("x", "y")], body=0.3, between=bending(2)),
])
def test_a_guardrail_is_built_again_with_it(rail):
    way = thrown([-0.3, 0.2], [1.0, -0.5], [0.4, 2.0])
    config = msgspec.convert(msgspec.to_builtins(rail.config), type(rail.config))
    again = config.build(Columns(), (4,), {})
    assert again.config == rail.config
    assert torch.equal(again.margin(way, ACTIONS), rail.margin(way, ACTIONS))
    assert torch.equal(rail.bare().margin(way, ACTIONS), rail.margin(way, ACTIONS))
