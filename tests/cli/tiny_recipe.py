"""The recipe `tiny`: what a recipe looks like to the command line."""

from __future__ import annotations

from typing import Literal

from steersman.agent import AgentConfig
from steersman.objectives import Prediction, VICReg
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(*, steps: int = 12, width: int = 8, schedule: Literal["cosine", "constant"] = "cosine", seed: int = 0,
           parts: dict[str, int] | None = None) -> TrainConfig:
    """A point that is pushed.

    steps      optimiser steps
    width      numbers in a hidden layer,
               and nothing else
    """
    agent = AgentConfig(perception=VectorEncoder.Config(hidden=(width,), size=4),
                        world_model=ResidualModel.Config(width=width), readout=LinearReadout.Config())
    return TrainConfig(agent=agent, objectives=(Prediction.Config(), VICReg.Config()), steps=steps, window=6,
                       batch_size=4, rollout=(RolloutStage(until=0.5, starts=2, horizon=3),
                                              RolloutStage(starts=1, horizon=6)),
                       precision="fp32", schedule=schedule, gauge_every=4, checkpoint_seconds=0, seed=seed)
