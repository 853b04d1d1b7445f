"""Films without actions: levels of abstraction, each a latent prediction kept from collapse by SIGReg. Knows no world.

What was tried besides stands in LOG.md; `steersman evidence abstraction` prints what the levels foresee.
"""

from __future__ import annotations

from collections.abc import Sequence

from steersman.agent import AgentConfig
from steersman.core import ConfigError, Pace
from steersman.objectives import ExplainedPrediction, Prediction, SIGReg
from steersman.perception import ConvEncoder, VectorEncoder
from steersman.training import AbstractionConfig, RolloutStage, TrainConfig
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Gaussian

_FRAMES = 192  # of a batch at the first level
OPEN = 0.5
"""Variance that a latent variable leaves open, where the numbers of a state have about 1: far ahead most is open, and
at a tenth of this z also tells what could have been foreseen."""


def levels(
    *,
    strides: Sequence[int] = (4, 4),
    steps: Sequence[int] = (600, 800, 800),
    size: int = 32,
    frames: int = 3,
    window: int = 4,
    ahead: int = 3,
    first_ahead: int = 2,
    width: int = 256,
    futures: int = 0,
    seed: int = 0,
) -> tuple[AbstractionConfig, ...]:
    """One level more than there are strides: the lowest sees the film and steps a frame at a time.

    strides  of the levels above the first, in steps of the level below; 0: measured when it is trained
    steps    optimiser steps of each level
    size     numbers of a state, at every level
    frames   pictures in a moment of the first level, so that motion is seen
    window   states of the level below that a level sees at once
    ahead    steps that training looks ahead, above the first level
    first_ahead  frames that training looks ahead at the first; many films in a batch say more than long windows, so
             that a batch has as many frames whatever it is
    width    of hidden layers above the first level
    futures  numbers of a Gaussian latent variable above the first level; 0: what is expected, alone
    seed     of the training

    Raises:
        ConfigError: no steps for one of the levels.
    """
    if len(steps) < len(strides) + 1:
        raise ConfigError(f"steps of {len(strides) + 1} levels, one more than strides", f"{list(steps)}",
                          "name as many, the lowest level's first")
    found = [AbstractionConfig(train=_first(steps[0], size, frames, first_ahead, seed))]
    for number, stride in enumerate(strides, 1):
        found.append(AbstractionConfig(
            train=_above(steps[number], size, width, ahead, futures, seed + 1000 * number), stride=stride,
            window=window))
    return tuple(found)


def _first(steps: int, size: int, frames: int, ahead: int, seed: int) -> TrainConfig:
    return TrainConfig(
        agent=AgentConfig(
            perception=ConvEncoder.Config(activation="relu", projector=256, patch=2, widths=(16, 32, 64), blocks=0,
                                          size=size),
            world_model=ResidualModel.Config(width=256)),
        objectives=(Prediction.Config(weight=1.0), SIGReg.Config(weight=0.09, slices=256, per_step=False)),
        steps=steps, pace=Pace(frames=frames), window=ahead, batch_size=max(8, _FRAMES // (ahead + 1)),
        rollout=(RolloutStage(starts=1, horizon=ahead),), lr=2e-3, gauge_every=0, probe=False, precision="fp32",
        checkpoint_seconds=0, seed=seed)


def _above(steps: int, size: int, width: int, ahead: int, futures: int, seed: int) -> TrainConfig:
    chance = Gaussian.Config(size=futures, width=64) if futures else None
    return TrainConfig(
        agent=AgentConfig(perception=VectorEncoder.Config(hidden=(width,), size=size),
                          world_model=ResidualModel.Config(width=width, latent_variable=chance)),
        objectives=(
            ExplainedPrediction.Config(weight=1.0, price=2 * OPEN / size) if futures else Prediction.Config(weight=1.0),
            SIGReg.Config(weight=0.09, slices=256, per_step=False)),
        steps=steps, window=ahead + 1, batch_size=64, rollout=(RolloutStage(starts=2, horizon=ahead),), lr=2e-3,
        gauge_every=0, probe=False, precision="fp32", checkpoint_seconds=0, seed=seed)
