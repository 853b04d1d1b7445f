"""Traffic that turns: another car comes to a junction and takes one of three ways.

Shapes: N rows, O = 3 outcomes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ColumnGoal, ConfigError
from steersman.worlds.branching.branching import Branching, Futures

_STEP, _PACE, _NEAR = 0.125, 0.1, 0.15
_WAYS = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])


class Traffic(Branching, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Columns own (place of one's own car on the x axis, driven from 1 to -1), x, y (of the other car) and to_x, to_y
    (where it heads).

        own' = clamp(own - (a + 1) / 20, -1, 1);   (x, y)' = (x, y) + heading / 8;
        the step that reaches y' = 0 on the way up decides the heading: left, straight on or right

    ways  the three probabilities

    Errors: ConfigError for three numbers that are no probabilities.
    """

    columns: ClassVar[tuple[str, ...]] = ("own", "x", "y", "to_x", "to_y")
    apart: ClassVar[float] = 2.0**0.5
    step_limit: ClassVar[int] = 40
    success: ClassVar[str] = "one's own car has crossed"
    violation: ClassVar[str] = "crashed into the other car"

    ways: tuple[float, float, float] = (0.5, 0.3, 0.2)

    def __post_init__(self) -> None:
        if min(self.ways) < 0 or abs(sum(self.ways) - 1) > 1e-6:
            raise ConfigError("three probabilities that sum to 1", f"{self.ways}", "correct `ways`")

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        own = 0.6 + 0.4 * torch.rand(count, generator=generator)
        y = -_STEP * torch.randint(3, 6, (count,), generator=generator)
        zero = torch.zeros_like(own)
        return torch.stack([own, zero, y, zero, torch.ones_like(own)], 1)

    def futures(self, state: Tensor, action: Tensor) -> Futures:
        own, place, heading = state[:, :1], state[:, 1:3], state[:, 3:]
        own = (own - _PACE * (action + 1) / 2).clamp(-1, 1)
        moved = place + _STEP * heading
        here = (place[:, 1] < 0) & (moved[:, 1] >= 0)
        ways = torch.where(here[:, None, None], _WAYS.to(state), heading[:, None])
        known = torch.cat([own, moved], 1)[:, None].expand(-1, 3, -1)
        share = torch.tensor(self.ways).to(state)
        only = torch.tensor([1.0, 0.0, 0.0]).to(state)
        return Futures(torch.cat([known, ways], 2), torch.where(here[:, None], share, only))

    def situations(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        state = self.start(count, generator)
        state[:, 2] = -_STEP
        state[:, 0] -= _PACE * torch.rand(count, generator=generator)
        return state, 2 * torch.rand(count, 1, generator=generator) - 1

    def approach(self) -> tuple[int, int]:
        return 5, 8

    def goal(self, count: int) -> ColumnGoal:
        return ColumnGoal({"own": torch.full((count,), -1.0)}, {"own": 1.0})

    def solved(self, state: Tensor) -> Tensor:
        return state[:, 0] <= -0.9

    def bad(self, state: Tensor) -> Tensor:
        apart = (state[:, 1:3] - torch.stack([state[:, 0], torch.zeros_like(state[:, 0])], 1)).norm(dim=1)
        return apart < _NEAR
