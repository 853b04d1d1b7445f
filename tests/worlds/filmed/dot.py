"""A world that draws itself with numpy: a white block of 4 x 4 pixels on a grey picture, moved by the action."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

HEIGHT, WIDTH = 40, 64


class Dot(gym.Env[Any, Any]):
    """The place (x, y) is the truth; it ends at the right rim. `fault` says what is wrong with its pictures.

    drawn  how many pictures were drawn
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    columns = {"vector": ("x", "y")}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, fault: str = "", step: int = 4) -> None:
        self.render_mode, self.fault, self.width = render_mode, fault, step
        self.observation_space = spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.drawn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.integers(0, 5, 2) * 4.0
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + self.width * np.asarray(action, np.float64), 0, [WIDTH - 4, HEIGHT - 4])
        return self.place.astype(np.float32), 1.0, bool(self.place[0] >= WIDTH - 4), False, {}

    def render(self) -> Any:
        self.drawn += 1
        if self.fault == "nothing":
            return None
        picture = np.full((HEIGHT + (self.drawn if self.fault == "sizes" else 0), WIDTH, 3), 90, np.uint8)
        x, y = (int(n) for n in self.place)
        picture[y:y + 4, x:x + 4] = 255
        if self.fault == "black":
            picture[:] = 0
        return picture.astype(np.float32) if self.fault == "float" else picture


class Blind(Dot):
    """Draws nothing, and says so."""

    metadata = {"render_modes": []}  # noqa: RUF012


def make(**options: Any) -> gym.Env[Any, Any]:
    return Dot(**options)


def make_blind(**options: Any) -> gym.Env[Any, Any]:
    return Blind(**options)


def make_plain() -> gym.Env[Any, Any]:
    return Dot()
