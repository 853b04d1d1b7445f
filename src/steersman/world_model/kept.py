"""What transformers keep of moments in a belief: as many of every row, and nothing of another episode.

Knows no layers. Shapes: B problems, T moments, P = context - 1 moments that are looked back at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Belief


def settled(belief: Belief, sets: int, past: int, shape: tuple[int, ...]) -> Belief:
    """A belief that carries `sets` keys or values (B, *shape) of each moment there was, at most P, oldest first: with
    zeros before them, P of each, and behind them an age (B,) int64, how many of the newest count.

    One that has an age already, or nothing to look back at, stays as it is.
    """
    if not past or len(belief.carry) % sets:
        return belief
    b, count = len(belief), len(belief.carry) // sets
    zero = belief.state.new_zeros(b, *shape)
    carry = [x for i in range(sets) for x in (*[zero] * (past - count), *belief.carry[i * count : (i + 1) * count])]
    age = torch.full((b,), count, device=zero.device)
    return Belief(belief.state, belief.context, (*carry, age), belief.shared)


def begun(states: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """states (B, T, …), reset (B, T) bool or None -> how many moments lie between each and the first of its episode,
    (B, T); and, if anything was reset, which of the first T - 1 are of different episodes, (B, T - 1, T - 1) bool."""
    b, steps = states.shape[:2]
    ticks = torch.arange(steps, device=states.device)
    if reset is None:
        return ticks.expand(b, -1), None
    first = torch.where(reset, ticks, 0).cummax(1).values
    return ticks - first, first[:, :-1, None] != first[:, None, :-1]
