"""MiniGrid's empty room of 16 x 16: where the agent stands and which way it looks. No steersman here."""

import gymnasium
import minigrid  # noqa: F401  registers the environments
import numpy as np

COLUMNS = ("x", "y", "east", "south", "west", "north")


class Standing(gymnasium.Wrapper):
    """The picture of what lies ahead -> (x, y, direction one-hot); only left, right and forward are left to choose."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 16, (6,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def look(self):
        world = self.unwrapped
        return np.array([*world.agent_pos, *np.eye(4)[world.agent_dir]], np.float32)

    def reset(self, **kwargs):
        _, info = self.env.reset(**kwargs)
        return self.look(), info

    def step(self, action):
        _, reward, terminated, truncated, info = self.env.step(action)
        return self.look(), reward, terminated, truncated, info


def make():
    return Standing(gymnasium.make("MiniGrid-Empty-16x16-v0"))
