"""Keeping apart: the whole step counts, radii are read or zero, levels for barriers, refusals."""

from __future__ import annotations

import pytest
import torch

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Apart


class Columns(Readout):
    columns = ("dx0", "dy0", "r0", "dx1", "dy1")

    def read(self, states, context=None):
        return states


def future(*rows):
    return Imagined(torch.tensor([[rows]]))


ACTIONS = torch.zeros(1, 1, 1, 2)
BOTH = [("dx0", "dy0", "r0"), ("dx1", "dy1")]


def test_a_step_that_passes_over_a_thing_is_refused():
    fast = future((-1.0, 0.1, 0.2, 9.0, 9.0), (1.0, 0.1, 0.2, 9.0, 9.0))
    assert float(Apart(Columns(), BOTH, body=0.1).margin(fast, ACTIONS)) == pytest.approx(0.2)
    assert float(Apart(Columns(), BOTH, body=0.1, margin=0.5).margin(fast, ACTIONS)) == pytest.approx(0.7)


def test_the_nearest_of_several_things_decides():
    near_other = future((9.0, 9.0, 0.2, 0.0, 1.0), (9.0, 9.0, 0.2, 0.0, 0.5))
    guard = Apart(Columns(), BOTH, body=0.1)
    assert float(guard.margin(near_other, ACTIONS)) == pytest.approx(-0.4)
    level = guard.standing(near_other.states)
    assert level.shape == (1, 1, 2)
    assert level[0, 0].tolist() == pytest.approx([-0.9, -0.4])


def test_margins_grow_with_the_step_and_gradients_reach_places():
    rows = [(2.0, 0.0, 0.5, 9.0, 9.0)] * 3
    states = torch.tensor([[rows]], requires_grad=True)
    margin = Apart(Columns(), BOTH[:1], margin=[0.1, 0.4]).margin(Imagined(states), torch.zeros(1, 1, 2, 2))
    assert margin[0, 0].tolist() == pytest.approx([-1.4, -1.1])
    margin.sum().backward()
    assert float(states.grad[0, 0, 1, 0]) != 0


def test_nan_is_a_violation_and_unknown_columns_are_refused():
    lost = future((float("nan"), 0.0, 0.2, 9.0, 9.0), (1.0, 0.0, 0.2, 9.0, 9.0))
    assert not bool(Apart(Columns(), BOTH).margin(lost, ACTIONS) <= 0)
    for places in ([("dx0", "dz")], [("dx0",)], []):
        with pytest.raises(PlanningError):
            Apart(Columns(), places)
