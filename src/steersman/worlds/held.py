"""Actions at random that are held for a while: what shows in pictures that lie a moment apart. Knows no world.

Shapes: B episodes, T steps, A action size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steersman.core import ActionSpec, UsageError
from steersman.worlds.trials import random_actions

HOLD = 5.0
"""Steps that an action of a log is held for, on average."""


def holding(spec: ActionSpec, count: int, hold: float, generator: torch.Generator) -> Callable[[], Tensor]:
    """Every call gives actions (count, A): each row's last one again with probability 1 - 1 / hold, else a new one,
    uniform within the bounds or among the choices. An action lasts `hold` steps on average (a geometric law).

    Raises:
        UsageError: a hold below 1.
    """
    if not hold >= 1:
        raise UsageError("actions held for at least 1 step on average", f"{hold}", "1 draws anew at every step")
    last: Tensor | None = None

    def act() -> Tensor:
        nonlocal last
        fresh = random_actions(spec, count, generator)
        change = torch.rand(count, 1, generator=generator) < 1 / hold
        last = fresh if last is None else torch.where(change, fresh, last)
        return last

    return act


def held_actions(spec: ActionSpec, count: int, steps: int, generator: torch.Generator, hold: float = HOLD) -> Tensor:
    """`steps` >= 1 calls of `holding` -> (count, T, A)."""
    act = holding(spec, count, hold, generator)
    return torch.stack([act() for _ in range(steps)], 1)
