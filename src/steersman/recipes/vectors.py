"""A log of vectors, no reward: a small encoder, a residual predictor, planning to goals on decoded columns."""

from __future__ import annotations

from steersman.actor import ICEM
from steersman.agent import AgentConfig
from steersman.objectives import InverseDynamics, Prediction, VICReg
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(
    *,
    steps: int = 2500,
    window: int = 8,
    batch_size: int = 128,
    size: int = 16,
    width: int = 128,
    members: int = 1,
    lr: float = 4e-3,
    horizon: int = 15,
    samples: int = 128,
    iterations: int = 3,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """A log of vectors in which one observation tells the state.

    steps       optimiser steps
    window      steps of the rollouts that are trained; episodes that are shorter are left out
    batch_size  windows a step
    size        features beside the columns themselves; a few predict farther than many do (LOG.md)
    width       width of the encoder's and the predictor's hidden layers
    members     predictors in an ensemble; more than 1 gives the cost term "disagreement"
    lr          peak learning rate
    horizon     steps that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    held_out    share of the log, its end, that is kept from training: `evaluate --offline` measures trust on it; 0.25
                for fewer than 100 episodes, as bounds need 9 of them
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=size, hidden=(width, width), keep=True),
            world_model=ResidualModel.Config(width=width, members=members),
            planner=ICEM.Config(
                samples=samples, iterations=iterations, elites=max(1, samples // 8), horizon=horizon, spread=1.0
            ),
            readout=LinearReadout.Config(),
        ),
        objectives=(
            Prediction.Config(weight=100.0),  # the columns are kept, so little can collapse: finer by far (LOG.md)
            VICReg.Config(variance=16.0, covariance=4.0),
            InverseDynamics.Config(weight=1.0),
        ),
        steps=steps,
        window=window,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=1, horizon=window),),
        lr=lr,
        held_out=held_out,
        seed=seed,
    )
