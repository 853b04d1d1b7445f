"""gym-pusht's T, with its angle as cosine and sine, so that a turn has no jump in it. No steersman here."""

import gym_pusht  # noqa: F401  registers the environment
import gymnasium
import numpy as np

COLUMNS = ("agent_x", "agent_y", "block_x", "block_y", "cos", "sin")


class Turned(gymnasium.ObservationWrapper):
    """(agent x, agent y, block x, block y, angle) -> the same with (cos, sin) for the angle."""

    def __init__(self, env):
        super().__init__(env)
        high = np.array([512, 512, 512, 512, 1, 1], np.float32)
        self.observation_space = gymnasium.spaces.Box(np.array([0, 0, 0, 0, -1, -1], np.float32), high)

    def observation(self, state):
        return np.array([*state[:4], np.cos(state[4]), np.sin(state[4])], np.float32)


def make():
    return Turned(gymnasium.make("gym_pusht/PushT-v0", obs_type="state"))
