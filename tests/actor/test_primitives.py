"""Rays: a few actions that span what can be done, within bounds."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.actor.ground.primitives import rays
from steersman.core import ActionSpec


def test_discrete_rays_are_the_choices():
    assert rays(ActionSpec("discrete", choices=4), 16).tolist() == [[0], [1], [2], [3]]


def test_one_dimension_is_spanned_from_low_to_high():
    fan = rays(ActionSpec("continuous", (-2.0,), (4.0,)), 4)
    torch.testing.assert_close(fan, torch.tensor([[-2.0], [0], [2], [4]]))


def test_two_dimensions_are_directions_on_the_inscribed_ellipse():
    fan = rays(ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0)), 12)
    unit = (fan - torch.tensor([0.0, 0.5])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(12))
    angle = torch.atan2(unit[:, 1], unit[:, 0]).remainder(2 * math.pi - 1e-4).sort().values
    torch.testing.assert_close(angle.diff(), torch.full((11,), 2 * math.pi / 12), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [3, 6])
def test_more_dimensions_are_spread_within_bounds_and_the_same_each_time(size):
    spec = ActionSpec("continuous", (-1.0,) * size, (3.0,) * size)
    fan = rays(spec, 32)
    assert fan.shape == (32, size)
    assert float(fan.min()) >= -1
    assert float(fan.max()) <= 3
    torch.testing.assert_close(((fan - 1) / 2).norm(dim=1), torch.ones(32))
    assert float(((fan - 1) / 2).mean(0).norm()) < 0.4
    assert torch.equal(fan, rays(spec, 32))


def test_turned_rays_lie_between_the_others_and_shorter_ones_are_shorter():
    plane = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
    plain, turned = rays(plane, 8), rays(plane, 8, turn=0.5)
    angle = torch.atan2(turned[:, 1], turned[:, 0]) - torch.atan2(plain[:, 1], plain[:, 0])
    torch.testing.assert_close(torch.remainder(angle, 2 * math.pi), torch.full((8,), math.pi / 8))
    torch.testing.assert_close(rays(plane, 8, reach=0.5), plain / 2)
    space = ActionSpec("continuous", (-1.0,) * 3, (1.0,) * 3)
    assert not torch.equal(rays(space, 8), rays(space, 8, turn=0.5))
    torch.testing.assert_close(rays(space, 8, turn=0.5).norm(dim=1), torch.ones(8))
