"""Stable-Baselines3's soft actor-critic in the worlds of `steersman evidence control`: the only learner there that acts
while it learns, for as many steps of the world as the others' log has.

It needs amounts: a choice is made of one amount within [-1, 1], cut into equal parts. In nine rooms it is shown where
it is and where it should be, earns minus the distance in metres at every step, and an episode ends at the goal.

Haarnoja et al. 2018. Shapes: B episodes, C columns, A action size, G columns of a goal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.core import ConfigError, Observation
from steersman.core.extras import require
from steersman.evidence.control_worlds import ControlWorld
from steersman.worlds import NineRooms, make_env

EXTRA = "sac"
"""`pip install "steersman[sac]"`."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings; the defaults are Stable-Baselines3's, but for hidden layers of (256, 256) there.

    every    steps of the world between two updates
    random   first steps, which are random
    """

    hidden: tuple[int, ...] = (64, 64)
    lr: float = 1e-3
    batch_size: int = 128
    every: int = 1
    random: int = 500

    def __post_init__(self) -> None:
        if min(self.every, self.random, self.batch_size, *self.hidden) < 1 or self.lr <= 0:
            raise ConfigError("widths, batch_size, every and random >= 1, lr > 0", f"{self}", "correct the settings")


class Choosing(gymnasium.ActionWrapper):  # type: ignore[type-arg]
    """One amount within [-1, 1] in place of a choice."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.choices = int(env.action_space.n)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def action(self, action: Any) -> Any:
        """Which part of the range it lies in."""
        return int(chosen(torch.as_tensor(action), self.choices)[0])


def chosen(amount: Tensor, choices: int) -> Tensor:
    """(…) within [-1, 1] -> which of `choices` equal parts, (…) int64."""
    return ((amount.double() + 1) / 2 * choices).long().clamp(0, choices - 1)


class Rooms(gymnasium.Env):  # type: ignore[type-arg]
    """Nine rooms for one walker that sees its goal: [x, y, vx, vy, goal x, goal y]."""

    def __init__(self, seed: int) -> None:
        self.world, self.next, self.steps = NineRooms(), seed, 0
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Another start and goal, anywhere."""
        super().reset(seed=seed)
        self.next += 1
        self.trials, self.steps = self.world.begin(1, self.next), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One push."""
        self.trials.step(torch.as_tensor(action, dtype=torch.float32).clamp(-1, 1)[None])
        self.steps += 1
        apart = float((self.trials.state.position - self.trials.state.goal).norm())
        return self._seen(), -apart, bool(self.trials.solved()), self.steps >= self.world.step_limit, {}

    def _seen(self) -> Any:
        state = self.trials.state
        return torch.cat([state.position, state.velocity, state.goal], 1)[0].numpy().astype(np.float32)


@dataclass(frozen=True)
class Learned:
    """A function (observation, goal) -> actions (B, A), for `evaluation.act_in` and `evaluate`; updates that it had."""

    model: Any
    world: ControlWorld
    updates: int
    seconds: float

    def __call__(self, observation: Observation, goal: Observation) -> Tensor:
        seen = observation["vector"]
        if self.world.told:
            seen = torch.cat([seen, torch.stack([goal[name] for name in self.world.told], 1)], 1)
        action = torch.from_numpy(self.model.predict(seen.numpy(), deterministic=True)[0].copy())
        return chosen(action[:, 0], self._choices)[:, None] if self._choices else action

    @property
    def _choices(self) -> int:
        return 0 if self.world.rooms else getattr(make_env(self.world.env).action_space, "n", 0)


def train(world: ControlWorld, steps: int, config: Config = Config(), seed: int = 0) -> Learned:  # noqa: B008
    """Act and learn for `steps` steps of the world.

    Raises:
        UsageError: Stable-Baselines3 is not installed.
    """
    package = require("stable_baselines3", EXTRA)
    before = time.process_time()
    with torch.random.fork_rng([]):
        env: Any = Rooms(1_000_003 * (seed + 7)) if world.rooms else make_env(world.env)
        env = Choosing(env) if hasattr(env.action_space, "n") else env
        model = package.SAC(
            "MlpPolicy", env, seed=seed, device="cpu", learning_rate=config.lr, batch_size=config.batch_size,
            buffer_size=steps, learning_starts=min(config.random, max(steps // 2, 1)), train_freq=config.every,
            policy_kwargs={"net_arch": list(config.hidden)})
        model.learn(total_timesteps=steps)
        updates = int(model._n_updates)
        env.close()
    return Learned(model, world, updates, time.process_time() - before)
