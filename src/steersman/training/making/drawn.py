"""Rollouts in which chance is drawn from its prior.

Shapes: B windows, S starts, n steps a rollout, U uniform numbers a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Drawn, Encoded, Need, Rolled
from steersman.training.making.maker import Given, Maker, Making, makes, require_model
from steersman.training.making.rollouts import rolled


@makes(Drawn)
class MakeDrawn(Maker[Drawn, Rolled]):
    """`WorldModel.imagine` with uniform noise, from the same starts as `Rollouts`."""

    def within(self, need: Drawn) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def require(self, need: Drawn, given: Given) -> None:
        if require_model(need, given).latent_variable is None:
            raise ConfigError("a world model that leaves something to chance", type(given.world_model).__name__,
                              "set its `latent_variable`, or drop the objective that draws chance")
        if not given.config.window:
            raise ConfigError("windows of at least one step, to draw what comes", "single moments", "set `window`")

    def make(self, need: Drawn, making: Making) -> Rolled:
        steps, numbers = making.stage.horizon, making.world_model.chance

        def noise(starts: int) -> Tensor:
            return making.drawn(lambda windows: torch.rand(windows * starts, steps, numbers, device=making.device))

        return rolled(making, draw=noise)
