"""A log of vectors that tell the whole state, no reward: level 1 sees walls, and goals may lie beyond any horizon."""

from __future__ import annotations

from steersman.actor import Reach
from steersman.agent import AgentConfig
from steersman.memory import WayConfig
from steersman.objectives import Prediction
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel


def recipe(
    *,
    steps: int = 7000,
    batch_size: int = 512,
    unroll: int = 2,
    width: int = 128,
    waves: int = 5,
    lr: float = 5e-3,
    nodes: int = 3000,
    horizon: int = 12,
    samples: int = 16,
    rounds: int = 1,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """A log of vectors in which one observation tells the state, places and speeds, undisturbed.

    steps       optimiser steps
    batch_size  windows a step
    unroll      steps of the rollouts that are trained
    width       width of the predictor's hidden layers
    waves       octaves of Fourier features of the state; 0 where nothing is abrupt
    lr          peak learning rate
    nodes       of the graph of ways
    horizon     steps that level 1 imagines of a candidate
    samples     candidates a round
    rounds      rounds a decision
    held_out    share of the log, its end, that is kept from training
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=0, hidden=(), keep=True),
            world_model=ResidualModel.Config(width=width, linear=True, waves=waves),
            planner=Reach.Config(horizon=horizon, samples=samples, rounds=rounds, ways=WayConfig(nodes=nodes, mend=2)),
            readout=LinearReadout.Config(),
        ),
        objectives=(Prediction.Config(per_change=True),),
        steps=steps,
        window=unroll,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=1, horizon=unroll),),
        lr=lr,
        held_out=held_out,
        seed=seed,
    )
