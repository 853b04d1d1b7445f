"""Held actions without anybody who looks: whole logs of them at once, and a floor. Knows no world.

Shapes: B episodes, T steps, A action size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steersman.core import ActionSpec
from steersman.worlds.recording import held

HOLD = 5.0
"""Steps that an action of a log is held for, on average."""


def holding(spec: ActionSpec, count: int, hold: float, generator: torch.Generator) -> Callable[[], Tensor]:
    """Every call gives actions (count, A), each held for `hold` steps on average, see `recording.held`."""
    act, lanes = held(spec, hold), {"nobody looks": torch.empty(count, 0)}
    return lambda: act(lanes, generator)


def held_actions(spec: ActionSpec, count: int, steps: int, generator: torch.Generator, hold: float = HOLD) -> Tensor:
    """`steps` >= 1 calls of `holding` -> (count, T, A)."""
    act = holding(spec, count, hold, generator)
    return torch.stack([act() for _ in range(steps)], 1)
