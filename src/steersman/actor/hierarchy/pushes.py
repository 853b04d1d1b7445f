"""Candidates of the lower level: pushes that are held, one after the other, as a hand would try them.

Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.primitives import held_rays
from steersman.core import Problem, Streams

_FULL = 2 / 3  # share of pushes that are as strong as can be
_NOISE, _ANEW = 0.4, 0.5


def held_pushes(problem: Problem, count: int, horizon: int, hold: int, streams: Streams) -> Tensor:
    """`count` sequences of pushes, each held for `hold` steps: (B, K, H, A).

    A push is drawn on the surface of what can be done, uniform in direction, and half as often inside it; choices are
    drawn alike. Where an action is a chunk of several, a push is held throughout it. Draws of a problem do not depend
    on its neighbours.
    """
    b, spec = len(problem), problem.action
    pieces = -(-horizon // hold)
    if spec.kind == "discrete":
        drawn = (streams.uniform(count, pieces, 1) * spec.choices).long().clamp(max=spec.choices - 1)
    else:
        unit = (2 * streams.uniform(count, pieces, spec.single.size) - 1).repeat(1, 1, 1, spec.chunk)
        most = unit.abs().amax(-1, keepdim=True).clamp_min(1e-6)
        full = streams.uniform(count, pieces, 1) < _FULL
        drawn = Bounds(spec, problem.belief.state).action(torch.where(full, unit / most, unit).to(problem.belief.state))
    assert drawn.shape[0] == b
    return drawn.repeat_interleave(hold, 2)[:, :, :horizon]


def constant_pushes(problem: Problem, count: int, horizon: int) -> Tensor:
    """About `count` directions, held throughout: (B, R, H, A)."""
    fan = held_rays(problem.action, count).to(problem.belief.state.device)
    return fan[None, :, None].expand(len(problem), -1, horizon, -1)


def disturbed(problem: Problem, best: Tensor, count: int, hold: int, streams: Streams) -> Tensor:
    """Sequences (B, H, A) with noise that is held for `hold` steps, of 0.4 of half the range; of choices every other
    one drawn anew: (B, count, H, A)."""
    horizon = best.shape[1]
    pieces = -(-horizon // hold)
    if problem.action.kind == "discrete":
        other = streams.uniform(count, pieces, 1).repeat_interleave(hold, 2)[:, :, :horizon] < _ANEW
        return torch.where(other, held_pushes(problem, count, horizon, hold, streams), best[:, None])
    bounds = Bounds(problem.action, problem.belief.state)
    spec = problem.action
    noise = streams.normal(count, pieces, spec.single.size).repeat(1, 1, 1, spec.chunk)
    noise = noise.repeat_interleave(hold, 2)[:, :, :horizon]
    return bounds.action((bounds.unit(best)[:, None] + _NOISE * noise.to(best)).clamp(-1, 1))
