"""A gate that opens at random: whoever waits before it never knows when.

Shapes: N rows, O = 2 outcomes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ColumnGoal, ConfigError
from steersman.worlds.branching.branching import Branching, Futures

_GATE, _BEFORE, _PACE = 0.5, 0.45, 0.1


class Gate(Branching, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Columns x (the way, from 0 to 1) and open (0 or 1).

        x' = clamp(x + a / 10, 0, 1), at most 0.45 while the gate is closed and x is before it;
        a closed gate opens with probability `opens` at every step, and stays open

    Errors: ConfigError for a probability outside (0, 1).
    """

    columns: ClassVar[tuple[str, ...]] = ("x", "open")
    apart: ClassVar[float] = 1.0
    step_limit: ClassVar[int] = 40
    success: ClassVar[str] = "behind the gate, at the end of the way"

    opens: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.opens < 1:
            raise ConfigError("a probability in (0, 1)", f"{self.opens}", "correct `opens`")

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        x = _BEFORE * torch.rand(count, generator=generator)
        return torch.stack([x, torch.zeros_like(x)], 1)

    def futures(self, state: Tensor, action: Tensor) -> Futures:
        x, is_open = state[:, 0], state[:, 1] > 0.5
        end = (x + _PACE * action[:, 0]).clamp(0, 1)
        end = torch.where(~is_open & (x < _GATE), end.clamp(max=_BEFORE), end)
        opens = torch.where(is_open, 1.0, self.opens)
        each = torch.stack([torch.stack([end, torch.full_like(end, to)], -1) for to in (1.0, 0.0)], 1)
        return Futures(each, torch.stack([opens, 1 - opens], 1))

    def situations(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.start(count, generator), 2 * torch.rand(count, 1, generator=generator) - 1

    def approach(self) -> tuple[int, int]:
        return 0, 4

    def goal(self, count: int) -> ColumnGoal:
        return ColumnGoal({"x": torch.ones(count)}, {"x": 1.0})

    def solved(self, state: Tensor) -> Tensor:
        return state[:, 0] >= 0.9
