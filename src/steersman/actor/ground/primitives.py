"""A few representative actions to try at a place: directions for continuous actions, choices for discrete ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.core import ActionSpec


def rays(action: ActionSpec, count: int, turn: float = 0.0, reach: float = 1.0) -> Tensor:
    """About `count` constant actions that span what can be done: (R, A).

    turn   0 to 1: directions between those of turn 0 (0.5 lies in the middle of two); others for more dimensions
    reach  0 to 1: length of the actions, as a share of the longest

    Discrete: every choice. One dimension: `count` values from low to high. Two: `count` directions on the ellipse
    inscribed in the bounds. More: directions on the inscribed ellipsoid, spread by a fixed low-discrepancy sequence.
    """
    if action.kind == "discrete":
        return torch.arange(action.choices)[:, None]
    bounds = Bounds(action, torch.zeros(()))
    if action.size == 1:
        unit = torch.linspace(-1, 1, max(count, 2))[:, None]
    elif action.size == 2:
        angle = 2 * math.pi * (torch.arange(count) + turn) / count
        unit = torch.stack([angle.cos(), angle.sin()], 1)
    else:
        # the sequence begins with a corner and the middle, which is no direction
        sequence = torch.quasirandom.SobolEngine(action.size, scramble=False).fast_forward(2 + round(turn * count))
        place = sequence.draw(count)
        normal = torch.erfinv((2 * place - 1).clamp(-0.999, 0.999))
        unit = normal / normal.norm(dim=1, keepdim=True)
    return bounds.action(reach * unit)


def held_rays(action: ActionSpec, count: int) -> Tensor:
    """The same, held throughout where one action is a chunk of several: directions of one of them, again and again."""
    if action.kind == "discrete" or action.chunk == 1:
        return rays(action, count)
    return rays(action.single, count).repeat(1, action.chunk)
