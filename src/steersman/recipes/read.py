"""What a read-out reads off pictures: a world model of these columns with a history, over an encoder that is done.

Knows no world. What it comes to beside planning in the encoder's own latents is printed by `steersman evidence pixels`.
"""

from __future__ import annotations

from steersman.actor import ICEM
from steersman.agent import AgentConfig
from steersman.agent.building.loading import stored_agent
from steersman.agent.building.readouts import load_readout, readout_record
from steersman.core import Pace, UsageError
from steersman.objectives import InverseDynamics, Prediction, VICReg
from steersman.perception import LinearReadout, ReadEncoder, VectorEncoder
from steersman.runs import Run
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ObserverModel

LEGIBLE = 0.25
"""R² of a column that becomes part of the state unless somebody chooses."""


def recipe(
    *,
    over: str = "",
    columns: str = "",
    steps: int = 1500,
    history: int = 16,
    ahead: int = 12,
    batch_size: int = 128,
    size: int = 16,
    width: int = 128,
    disturbances: int = 4,
    lr: float = 4e-3,
    horizon: int = 25,
    samples: int = 200,
    iterations: int = 3,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """How what is read off pictures moves: the second training, after `pixels` and `fit --labels`, on the same log.

    over        folder of the run that learned from the log's pictures and whose read-out was fitted to a few labels
    columns     of the read-out that become the state, with commas between them (default: those that it reads with an
                R² of at least 0.25 on labels that were kept from it; all, where none is or nobody measured it). Speeds
                that one picture does not show are told by the history
    steps       optimiser steps
    history     rows that are filtered before the model foresees
    ahead       rows of the rollouts that are trained; shorter episodes than both together are left out
    batch_size  windows a step
    size        features beside the columns themselves
    width       width of the hidden layers
    disturbances   numbers that the model infers beside the columns, for what they do not show
    lr          peak learning rate
    horizon     rows that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    held_out    share of the log, its end, that is kept from training
    seed        of the training

    Raises:
        UsageError: no folder, or a run without a read-out. RunError: no run there.
    """
    if not over:
        raise UsageError("the run that reads the pictures", "none",
                         "name one that was trained with --recipe pixels and fitted to labels: --over RUN")
    run = Run.open(over)
    eye, signature = stored_agent(run)
    readout = load_readout(run, "observation")
    if readout is None:
        raise UsageError(f"a run with a read-out at {over}", "none",
                         f"fit one first: steersman fit {over} --labels LOG")
    seen, chosen = signature.pace, tuple(filter(None, map(str.strip, columns.split(",")))) or tuple(
        name for name in readout.columns if readout.r2.get(name, 0.0) >= LEGIBLE)
    return TrainConfig(
        agent=AgentConfig(
            perception=ReadEncoder.Config(
                picture=eye.perception, readout=readout_record(readout).config, read=readout.columns, columns=chosen,
                features=VectorEncoder.Config(size=size, hidden=(width, width), keep=True), source=str(over)),
            world_model=ObserverModel.Config(width=width, disturbances=disturbances),
            planner=ICEM.Config(samples=samples, iterations=iterations, elites=max(1, samples // 8), horizon=horizon,
                                spread=1.0),
            readout=LinearReadout.Config(),
            history=history,
        ),
        objectives=(
            Prediction.Config(weight=100.0),
            VICReg.Config(variance=16.0, covariance=4.0),
            InverseDynamics.Config(weight=1.0),
        ),
        steps=steps,
        pace=Pace(step=1, frames=seen.frames, apart=seen.apart),
        window=history + ahead,
        batch_size=batch_size,
        rollout=(RolloutStage(starts=1, horizon=ahead),),
        lr=lr,
        held_out=held_out,
        seed=seed,
    )
