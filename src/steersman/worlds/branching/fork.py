"""A ball that rolls towards a fork: where it enters decides the odds, chance decides the side.

Shapes: N rows, O = 2 outcomes, P pixels of a picture's side.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from steersman.core import ColumnGoal, ConfigError, Observation, ObservationSpec, Signature
from steersman.worlds.branching.branching import Branching, Futures
from steersman.worlds.trials import Labelled

_STEP, _FORK, _REACH, _ASIDE = 0.125, 0.5, 0.4, 0.5
_LEAST = 16


class Fork(Branching, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Columns x (across) and y (along).

        y' = y + 1/8;   x' = clamp(x + a / 10, -0.4, 0.4) before the fork, x' = x behind it;
        the step that reaches y' = 1/2 goes on to x' - 1/2 with probability p, else to x' + 1/2,
        p = 1/2 - lean · x' / 0.4

    lean  how much where the ball enters changes the odds: p is between 1/2 - lean and 1/2 + lean
    look  "vector": the columns are observed; "picture": the board from above, P × P pixels
    size  P

    Errors: ConfigError for a lean outside [0, 0.5], or pictures smaller than 16 pixels.
    """

    columns: ClassVar[tuple[str, ...]] = ("x", "y")
    apart: ClassVar[float] = 2 * _ASIDE
    step_limit: ClassVar[int] = 8
    recorded: ClassVar[tuple[int, int]] = (2000, 8)
    success: ClassVar[str] = "the ball ends on the right"

    lean: float = 0.3
    look: Literal["vector", "picture"] = "vector"
    size: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.lean <= 0.5 or self.size < _LEAST:
            raise ConfigError(f"a lean in [0, 0.5] and pictures of at least {_LEAST} pixels",
                              f"{self.lean} and {self.size}", "correct the world's configuration")

    @property
    def signature(self) -> Signature:
        if self.look == "vector":
            return super().signature
        return Signature({"image": ObservationSpec("image", (self.size, self.size, 3))}, self.action)

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        x = (2 * torch.rand(count, generator=generator) - 1) * _REACH
        return torch.stack([x, torch.zeros_like(x)], 1)

    def futures(self, state: Tensor, action: Tensor) -> Futures:
        x, y = state.unbind(-1)
        along = y + _STEP
        aside = torch.where(y < _FORK, (x + action[:, 0] / 10).clamp(-_REACH, _REACH), x)
        here = (y < _FORK) & (along >= _FORK)
        left = torch.where(here, 0.5 - self.lean * aside / _REACH, 1.0)
        ends = torch.stack([torch.where(here, aside - _ASIDE, aside), torch.where(here, aside + _ASIDE, aside)], 1)
        states = torch.stack([ends, along[:, None].expand_as(ends)], -1)
        return Futures(states, torch.stack([left, 1 - left], 1))

    def situations(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        state = self.start(count, generator)
        state[:, 1] = _FORK - _STEP
        return state, 2 * torch.rand(count, 1, generator=generator) - 1

    def approach(self) -> tuple[int, int]:
        return 3, 6

    def goal(self, count: int) -> ColumnGoal:
        return ColumnGoal({"x": torch.full((count,), _ASIDE)}, {"x": 1.0})

    def solved(self, state: Tensor) -> Tensor:
        return (state[:, 1] >= 1) & (state[:, 0] > 0)

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """Frames of random moments of the log's kind with their true columns."""
        actions = 2 * torch.rand(count, before, 1, generator=generator) - 1
        state = self.start(count, generator)
        state[:, 1] = _STEP * torch.randint(0, self.step_limit + 1, (count,), generator=generator)
        side = torch.rand(count, generator=generator) < 0.5
        state[:, 0] += torch.where(state[:, 1] >= _FORK, torch.where(side, -_ASIDE, _ASIDE), 0.0)
        states = self.rollout(state, actions, torch.rand(count, before, generator=generator))
        return Labelled(self.seen(states), actions, states[:, -1], self.columns)

    def seen(self, state: Tensor) -> Observation:
        """What is observed in states (…, 2)."""
        if self.look == "vector":
            return super().seen(state)
        return {"image": painted(state, self.size)}


def painted(state: Tensor, size: int) -> Tensor:
    """The board from above, states (…, 2) -> (…, size, size, 3) uint8: a white ball on dark ground, a grey wedge behind
    the fork. Across, x from -1.25 to 1.25; along, y from -0.125 to 1.25 at the bottom."""
    grid = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    across, along = -1.25 + 2.5 * grid, -0.125 + 1.375 * grid
    x, y = (v[..., None, None] for v in state.unbind(-1))
    far = ((across - x) / 2.5).square() + ((along[:, None] - y) / 1.375).square()
    ball = ((0.09 - far.sqrt()) * size + 0.5).clamp(0, 1)
    wedge = 0.35 * (((across.abs() < 0.05) & (along[:, None] > 0.5)).float())
    grey = torch.maximum(ball, wedge.expand_as(ball))
    return (30 + 220 * grey).to(torch.uint8)[..., None].expand(*grey.shape, 3).contiguous()
