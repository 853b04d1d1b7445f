"""A task of dm-control's suite as a Gymnasium environment with one vector. No steersman here."""

import gymnasium
import numpy as np
from dm_control import suite

COLUMNS = ("cart", "cos", "sin", "cart_speed", "turn")


class Suite(gymnasium.Env):
    """Observations side by side in one vector; every action is held for `hold` control steps."""

    def __init__(self, domain, task, hold=1):
        self.domain, self.task, self.hold = domain, task, hold
        self.env = suite.load(domain, task)
        size = sum(int(np.prod(x.shape)) for x in self.env.observation_spec().values())
        bounds = self.env.action_spec()
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            bounds.minimum.astype(np.float32), bounds.maximum.astype(np.float32), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.env = suite.load(self.domain, self.task, task_kwargs={"random": seed})
        return self.vector(self.env.reset()), {}

    def step(self, action):
        reward = 0.0
        for _ in range(self.hold):
            now = self.env.step(action)
            reward += now.reward or 0.0
            if now.last():
                break
        return self.vector(now), reward, False, now.last(), {}

    def vector(self, now):
        return np.concatenate([np.ravel(x) for x in now.observation.values()]).astype(np.float32)


def make():
    return Suite("cartpole", "swingup", hold=4)
