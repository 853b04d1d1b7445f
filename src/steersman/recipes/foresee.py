"""Any log, also one in which nobody acts: an encoder for whatever it has, and a predictor of what comes next."""

from __future__ import annotations

from steersman.agent import AgentConfig
from steersman.objectives import Prediction, VICReg
from steersman.perception import PlainChoice
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import TransformerModel


def recipe(
    *,
    steps: int = 1500,
    window: int = 12,
    batch_size: int = 32,
    history: int = 4,
    size: int = 32,
    width: int = 128,
    lr: float = 2e-3,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """Films, sounds, fields, text or columns of numbers: a latent of each moment, and what the next ones will be.

    steps       optimiser steps
    window      steps of a training window; episodes that are shorter are left out
    batch_size  windows a step
    history     moments that the predictor sees before it foresees
    size        features of a state
    width       width of the predictor
    lr          peak learning rate
    held_out    share of the log, its end, that is kept from training
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=PlainChoice(size=size),
            world_model=TransformerModel.Config(width=width, context=history),
            history=history,
        ),
        objectives=(Prediction.Config(weight=4.0), VICReg.Config(variance=16.0, covariance=1.0)),
        steps=steps,
        window=window,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=2, horizon=max(1, (window - history + 1) // 2)),),
        lr=lr,
        held_out=held_out,
        seed=seed,
    )
