"""A log of vectors, no reward: a small encoder, a residual predictor, planning to goals on decoded columns."""

from __future__ import annotations

from steersman.actor import CEM, ICEM, AnyPlanner
from steersman.agent import AgentConfig
from steersman.objectives import InverseDynamics, Prediction, VICReg
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(
    *,
    steps: int = 1500,
    window: int = 8,
    batch_size: int = 256,
    size: int = 32,
    width: int = 128,
    members: int = 1,
    horizon: int = 15,
    samples: int = 128,
    iterations: int = 3,
    choices: bool = False,
    seed: int = 0,
) -> TrainConfig:
    """A log of vectors in which one observation tells the state.

    steps       optimiser steps
    window      steps of the rollouts that are trained
    batch_size  windows a step
    size        latent size
    width       width of the predictor's hidden layers
    members     predictors in an ensemble; more than 1 gives the cost term "disagreement"
    horizon     steps that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    choices     the actions are choices from a list (plan with CEM), not numbers within bounds (iCEM)
    seed        of the training
    """
    elites = max(1, samples // 8)
    planner: AnyPlanner = (
        CEM.Config(samples=samples, iterations=iterations, elites=elites, horizon=horizon, floor=0.1)
        if choices
        else ICEM.Config(samples=samples, iterations=iterations, elites=elites, horizon=horizon)
    )
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=size),
            world_model=ResidualModel.Config(width=width, members=members),
            planner=planner,
            readout=LinearReadout.Config(),
        ),
        objectives=(
            Prediction.Config(weight=4.0),
            VICReg.Config(variance=16.0, covariance=4.0),
            InverseDynamics.Config(weight=1.0),
        ),
        steps=steps,
        window=window,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=1, horizon=window),),
        lr=2e-3,
        seed=seed,
    )
