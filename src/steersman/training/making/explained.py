"""Rollouts in which chance is what explains the states that followed, as the world model's latent variable tells it.

Shapes: B windows, S starts, n steps a rollout, U uniform numbers a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, Explained, Need, Rolled
from steersman.training.making.maker import Given, Maker, Making, makes, require_model
from steersman.training.making.rollouts import rolled


@makes(Explained)
class MakeExplained(Maker[Explained, Rolled]):
    """`WorldModel.explain` from the same starts as `Rollouts`."""

    def within(self, need: Explained) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def require(self, need: Explained, given: Given) -> None:
        if require_model(need, given).latent_variable is None:
            raise ConfigError("a world model that leaves something to chance", type(given.world_model).__name__,
                              "set its `latent_variable`, or drop the objective that explains chance")
        if not given.config.window:
            raise ConfigError("windows of at least one step, to explain them", "single moments", "set `window`")

    def make(self, need: Explained, making: Making) -> Rolled:
        steps, numbers = making.stage.horizon, making.world_model.chance if need.sample else 0

        def noise(starts: int) -> Tensor:
            return making.drawn(lambda windows: torch.rand(windows * starts, steps, numbers, device=making.device))

        return rolled(making, noise)
