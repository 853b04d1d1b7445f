"""Any log with a camera: a world model of latents in ordinary parts, chosen by what the log has. Knows no world.

Which parts, and why, stands in LOG.md; `steersman evidence pixel-switches` prints what each is worth.
"""

from __future__ import annotations

from steersman.actor import ICEM
from steersman.agent import AgentConfig
from steersman.objectives import Prediction, SIGReg, Straightening
from steersman.perception import ConvEncoder, LinearReadout
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(
    *,
    steps: int = 1500,
    window: int = 8,
    batch_size: int = 32,
    size: int = 16,
    width: int = 192,
    lr: float = 2e-3,
    horizon: int = 15,
    samples: int = 100,
    iterations: int = 3,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """Pictures and actions, nothing else needed; moments and model steps are made of the log's rows as it shows.

    steps       optimiser steps
    window      model steps of a training window; episodes that are shorter are left out
    batch_size  windows a step
    size        features of a state
    width       width of the predictor's hidden layers
    lr          peak learning rate
    horizon     model steps that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    held_out    share of the log, its end, that is kept from training
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=ConvEncoder.Config(activation="relu", projector=256, size=size),
            world_model=ResidualModel.Config(width=width),
            planner=ICEM.Config(
                samples=samples, iterations=iterations, elites=max(1, samples // 8), horizon=horizon, spread=1.0
            ),
            readout=LinearReadout.Config(),
        ),
        objectives=(
            Prediction.Config(weight=1.0),
            SIGReg.Config(weight=0.09),
            Straightening.Config(weight=0.2),
        ),
        steps=steps,
        pace="auto",
        window=window,
        batch_size=batch_size,
        rollout=(
            RolloutStage(until=0.6, starts=max(1, window // 4), horizon=min(4, window)),
            RolloutStage(starts=1, horizon=window),
        ),
        lr=lr,
        clip=5,
        precision="bf16",
        held_out=held_out,
        probe=False,
        seed=seed,
    )
