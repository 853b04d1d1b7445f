"""Hazards from a log of roaming: the columns are the state, and guardrails need them right a second or two ahead."""

from __future__ import annotations

from steersman.actor import ICEM
from steersman.agent import AgentConfig
from steersman.objectives import Prediction
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(
    *,
    steps: int = 4000,
    window: int = 10,
    batch_size: int = 128,
    width: int = 64,
    lr: float = 4e-3,
    horizon: int = 16,
    samples: int = 32,
    iterations: int = 2,
    average: float = 0.99,
    seed: int = 0,
) -> TrainConfig:
    """A log of `steersman collect hazards` -> a controller that goes where it is told.

    steps       optimiser steps
    window      steps of a training window: two rollouts of half of it
    batch_size  windows a step
    width       width of the predictor's hidden layers
    lr          peak learning rate
    horizon     steps that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    average     decay of the moving average of the weights
    seed        of the training

    The latent is the columns and one feature, so nothing can collapse and no other objective is needed. A linear map
    beside the perceptron: motion is linear but for drag and walls.
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=1, hidden=(16,), keep=True),
            world_model=ResidualModel.Config(width=width, linear=True),
            planner=ICEM.Config(
                samples=samples, iterations=iterations, elites=max(1, samples // 8), horizon=horizon, spread=1.0
            ),
            readout=LinearReadout.Config(),
        ),
        objectives=(Prediction.Config(weight=4.0),),
        steps=steps,
        window=window,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=2, horizon=window // 2),),
        lr=lr,
        average=average,
        seed=seed,
    )
