"""A world in which any error at the border of an episode shows: every observation says where it comes from.

The observation is (episode number, step, the action that led here), the action of the first observation is -1.
Episodes of lane i last 2, 3, 4, … steps in turn, starting at 2 + i.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Counting(gym.Env[Any, Any]):
    """See above. `nested` gives a Dict observation, `discrete` a Discrete action that starts at 10."""

    def __init__(self, lane: int = 0, nested: bool = False, discrete: bool = False) -> None:
        where = spaces.Box(-1, 1000, (3,), np.float32)
        self.nested, self.discrete = nested, discrete
        picture = spaces.Box(0, 255, (2, 2, 3), np.uint8)
        self.observation_space = spaces.Dict({"where": where, "picture": picture}) if nested else where
        self.action_space = spaces.Discrete(5, start=10) if discrete else spaces.Box(0, 5, (1,), np.float32)
        self.lane, self.episode, self.clock, self.over = lane, -1, 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.clock, self.over = self.episode + 1, 0, False
        return self.look(-1.0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert not self.over, "stepped after the end"
        self.clock += 1
        length = 2 + (self.lane + self.episode) % 4
        self.over = self.clock == length
        terminated = self.over and self.episode % 2 == 0
        return self.look(float(np.ravel(action)[0])), 0.0, terminated, self.over and not terminated, {}

    def look(self, action: float) -> Any:
        where = np.array([self.episode, self.clock, action], np.float32)
        return {"where": where, "picture": np.full((2, 2, 3), self.clock, np.uint8)} if self.nested else where
