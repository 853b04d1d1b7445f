"""A plant from its historian: noisy measurements, unmeasured disturbances, plans that rest on limits."""

from __future__ import annotations

from steersman.actor import Newton
from steersman.agent import AgentConfig
from steersman.cost import SmoothnessCost
from steersman.objectives import Prediction
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ObserverModel


def recipe(
    *,
    steps: int = 1500,
    history: int = 24,
    horizon: int = 20,
    width: int = 96,
    batch_size: int = 64,
    lr: float = 6e-3,
    iterations: int = 2,
    held_out: float = 0.4,
    seed: int = 0,
) -> TrainConfig:
    """20,000 steps of a plant under random inputs -> a controller that keeps a limit through disturbances.

    The latent is the columns themselves (and one feature, which nothing asks for), so prediction alone is descended:
    what is measured cannot collapse.

    steps       optimiser steps
    history     moments from which noise is filtered and disturbances are inferred
    horizon     steps of the rollouts that are trained, and of a plan
    width       width of the predictor's hidden layers
    batch_size  windows a step
    lr          peak learning rate
    iterations  Newton steps a decision
    held_out    share of the log, its end, that is kept from training: guardrails' margins are calibrated on it
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=1, hidden=(16,), keep=True),
            world_model=ObserverModel.Config(width=width),
            planner=Newton.Config(iterations=iterations, samples=16, horizon=horizon, spread=0.5),
            costs=(SmoothnessCost.Config(),),
            readout=LinearReadout.Config(),
            history=history,
        ),
        objectives=(Prediction.Config(),),
        steps=steps,
        window=history - 1 + horizon,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=1, horizon=horizon),),
        lr=lr,
        held_out=held_out,
        gauge_every=0,
        seed=seed,
    )
